"""A very small BERT with a WordPiece tokenizer, of random weights, written to a folder as transformers does."""

from __future__ import annotations

from pathlib import Path

WORDS = "the a of in and was is on storm rain flood damage fire smoke cat dog bird sun moon star"
SIGNS = "@ # . ,"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_encoder(folder: Path, *, width: int = 32, layers: int = 2, positions: int = 64) -> Path:
    """Make the encoder; its folder."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = [*SPECIAL, *WORDS.split(), *SIGNS.split(), *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    places = {word: index for index, word in enumerate(dict.fromkeys(vocabulary))}
    made = Tokenizer(models.WordPiece(places, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", places["[SEP]"]), ("[CLS]", places["[CLS]"]))
    config = BertConfig(
        vocab_size=len(places),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=positions,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(config)
    model.save_pretrained(folder)
    tokenizer = BertTokenizer(tokenizer_object=made, model_max_length=positions)
    tokenizer.save_pretrained(folder)
    return folder
