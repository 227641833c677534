"""Where records come from: files, databases, Python; and what people labelled."""
