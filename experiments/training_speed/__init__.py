"""Speed: our training step against the released one, and where the time goes.

    python -m experiments.training_speed
    python -m experiments.training_speed --images 1 --patches 8 --repeats 3 --json speed.json

Both steps get the same weights, crops and draws of patches, so they have the same loss to compute;
the first lines of the result say how far they agree. They are then run in turn, and the ratio is
the median of the ratios of neighboring runs: what else a machine does hits both alike. CLIP has the
size of ViT-B/32 and VGG19 its own, both with random weights, and the crops are made up: time does
not depend on the values, but on how many patches pass the filter. So the threshold of the filter is
set to the median entropy of the patches that are drawn, which keeps one half of them.

Three more things are reported: the parts of each step, the arithmetic that each part has to do, and
the *roofline*: the time in which this machine could do that arithmetic if it did nothing but
multiply matrices, at the rate that is measured for one layer of CLIP.
"""
