"""What keeps the notebooks running: the runner, the HTML pages, the generated cells."""
