"""Reserved for the fine-tuning process. Nothing here runs yet and no command starts it."""
