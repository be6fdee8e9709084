"""docs/scaling.md holds the tables that the code makes."""

import scaling


def test_the_page_is_up_to_date():
    page = scaling.PAGE.read_text("utf-8")
    assert scaling.fill_page(page) == page


def test_a_row_by_hand():
    """0.1 GB: 18.3 M tokens, 40 times, 549 MFLOP each, at 396 TFLOP/s."""
    row = next(line for line in scaling.cost_table().splitlines() if "base" in line and "| 0.1 GB" in line)
    seconds = 0.1e9 * 17.46 / 95.3 * 40 * (0.9 * 545e6 + 0.1 * 588e6) / (0.4 * 989e12)
    assert f"| {seconds / 60:.1f} min / {seconds / 3600:.2f} / {seconds / 3600 * 2.5:.2f} |" in row
    assert scaling.cost_table().count("\n") == 2 + 3 * 4
