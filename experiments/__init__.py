"""How what ships was made, studies and benchmarks: ``python -m experiments.NAME``."""

from ldf_utils.data.cli import end_on_interrupt_while_importing

end_on_interrupt_while_importing()
