"""What is needed to put certkeeper on AWS; inside the wheel, so an installed one can deploy."""
