"""What one accelerator does with the whole of training: is it right, and how fast is it?"""
