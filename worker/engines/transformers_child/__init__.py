"""The process around one Hugging Face model, run by an interpreter that has torch."""
