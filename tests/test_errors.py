from bridge.errors import FOREIGN_MAX_CHARACTERS, SinkRefused, describe, shorten


def test_a_text_from_outside_is_one_printable_line_of_limited_length() -> None:
    text = shorten("\x1b[31mNo\r\n  way\t\0" + 10_000 * "x")
    assert text.startswith("[31mNo way xxx")
    assert text.endswith("x…")
    assert len(text) == FOREIGN_MAX_CHARACTERS
    assert text.isprintable()


def test_a_text_that_fits_stays_as_it_is() -> None:
    for text in (FOREIGN_MAX_CHARACTERS * "x", "牛来USDT is not listed"):
        assert shorten(text) == text


def test_an_error_of_ours_keeps_its_remedy() -> None:
    error = SinkRefused(300 * "x", "check kafka.username")
    assert describe(error) == str(error)


def test_an_error_without_a_text_is_named() -> None:
    assert describe(TimeoutError()) == "TimeoutError"
