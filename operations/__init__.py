"""What people run around a deployment: `python -m operations VERB --stack S`."""
