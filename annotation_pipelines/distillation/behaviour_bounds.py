"""The behavioural checks by name, what each asks for, and its bounds; `distillation.behaviour` makes them."""

CASE, BLANKS, UNICODE, PUNCTUATION = (
    "same_whatever_the_case",
    "same_with_blanks_around",
    "same_in_another_unicode_form",
    "same_without_the_last_point",
)
BATCH, RELOAD, CONFIDENCE, VALID, ODD, EXPECTED, CALIBRATED, ONE_LABEL = (
    "same_alone_and_in_a_batch",
    "same_after_reading_it_again",
    "confidence_is_a_probability",
    "answers_are_labels",
    "odd_texts_are_answered",
    "expected_labels_are_given",
    "confidence_is_calibrated",
    "no_label_takes_everything",
)
TOLERATED = {CASE: 0.15, BLANKS: 0.05, UNICODE: 0.05, PUNCTUATION: 0.15, BATCH: 0.02}
"""The share of texts whose label may change."""
ALONE = 10
"""So many texts are also predicted alone."""
CONFIDENCE_MOVES = 0.01
"""By so much a confidence may differ in another batch: sums of floating-point numbers depend on their order."""
MOST_ECE, ENOUGH_GOLD = 0.15, 50
"""The lower end of the interval of the expected calibration error is at most MOST_ECE, on ENOUGH_GOLD records."""
ONE_LABEL_SHARE, ONE_LABEL_BEYOND = 0.9, 0.2
"""No answer is given for a larger share of texts than ONE_LABEL_SHARE, nor than its share in training and
ONE_LABEL_BEYOND on top, whichever is more."""

DESCRIPTIONS = {
    CASE: f"Lower case, or upper case, changes the label of at most {TOLERATED[CASE]:.0%} of texts.",
    BLANKS: f"Blanks around a text change the label of at most {TOLERATED[BLANKS]:.0%} of texts.",
    UNICODE: f"Letters and accents apart (NFD) or together (NFC): the label of at most {TOLERATED[UNICODE]:.0%} of "
    "texts changes.",
    PUNCTUATION: f"A full stop at the end, or none, changes the label of at most {TOLERATED[PUNCTUATION]:.0%} of "
    "texts.",
    BATCH: "A text gets the same label alone, in a batch and in the batch in reverse, but for ties "
    f"({TOLERATED[BATCH]:.0%}); its confidence is the same within {CONFIDENCE_MOVES:.2f}.",
    RELOAD: "Read from disk again, the model gives the same labels, and the same confidence within a millionth.",
    CONFIDENCE: "Every confidence is a number from 0 to 1.",
    VALID: "Every answer is a label of the task.",
    ODD: "Empty, blank, very long and strange texts are answered too.",
    EXPECTED: "The texts of promotion: expect get the labels that they must have.",
    CALIBRATED: f"On {ENOUGH_GOLD} gold records or more the expected calibration error is not above {MOST_ECE:.2f} "
    "beyond chance: the lower end of its 95% interval is at most that.",
    ONE_LABEL: f"No answer is given for more than {ONE_LABEL_SHARE:.0%} of texts, unless it is as common in training.",
}
VITAL = (BATCH, RELOAD, CONFIDENCE, VALID, ODD, EXPECTED)
