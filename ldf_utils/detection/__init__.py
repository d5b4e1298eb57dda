"""Detection: do people and vehicles become easier to find in a fused picture?"""
