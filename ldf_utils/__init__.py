"""Language-driven infrared and visible image fusion: the method, room by room.

Data flows one way, and a room imports only from those before it (a test holds that):
``data``, then ``clip``, ``networks``, ``metrics`` and ``video``, ``losses``, ``training``,
``fusion``, ``evaluation`` and ``notebook``, and at last ``detection``.

Infrared comes before visible in every argument list; luminance tensors are ``(B, 1, H, W)`` in
[0, 1]. The method is that of Wang et al., "Infrared and Visible Image Fusion with Language-Driven
Loss in CLIP Embedding Space", arXiv:2402.16267.
"""

from ldf_utils.data.cli import end_on_interrupt_while_importing

end_on_interrupt_while_importing()

__version__ = "0.1.0"
