"""What keeps the notebooks running: the runner, the HTML pages, the generated cells."""

from ldf_utils.data.cli import end_on_interrupt_while_importing

end_on_interrupt_while_importing()
