"""Are two samples or two versions alike? Tests that stay valid however often one looks."""
