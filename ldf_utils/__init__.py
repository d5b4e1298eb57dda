"""Language-driven infrared and visible image fusion, one module a concept.

Data flows downwards through the modules, and a module imports only from those above it:

``files``, ``data``, ``images``, ``scenes``, ``clip_space``, ``attributes``, ``degradations``,
``lessons``,
``direction``, ``patches``, ``towers``, ``losses``, ``networks``, ``attack``, ``judging``,
``orthogonal``, ``mini_clip``, ``processes``, ``steps``, ``released_step``, ``speed``, ``training``,
``fusing``, ``baselines``, ``metrics``, ``evaluation``, ``language_study``, ``robustness``,
``figures``, ``widgets``, ``checks``.

Infrared comes before visible in every argument list; luminance tensors are ``(B, 1, H, W)`` in
[0, 1]. The method is that of Wang et al., "Infrared and Visible Image Fusion with Language-Driven
Loss in CLIP Embedding Space", arXiv:2402.16267.
"""

from ldf_utils.data.cli import end_on_interrupt_while_importing

end_on_interrupt_while_importing()

__version__ = "0.1.0"
