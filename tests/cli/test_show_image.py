from conftest import photo

from retrain.cli.show_image import caption


def test_a_photo_is_captioned_from_the_licence_file_above_it(tmp_path):
    image = photo(tmp_path / "daisy" / "1 2.png", (1, 2, 3))
    other = photo(tmp_path / "daisy" / "12.png", (1, 2, 3))
    (tmp_path / "LICENSE.txt").write_text("All photos.\n\ndaisy/1 2.png CC-BY by A - B - https://example.org/1\n")
    assert caption(image) == "daisy/1 2.png CC-BY by A - B"
    assert caption(other) == "12.png"


def test_without_a_licence_file_the_name_remains(tmp_path):
    assert caption(photo(tmp_path / "x.png", (1, 2, 3))) == "x.png"


def test_the_flowers_name_their_photographers(codelab_data):
    flowers = codelab_data / "datasets" / "flowers_1100"
    image = next((flowers / "daisy").glob("*.jpg"))
    assert f"daisy/{image.name} CC-BY by " in caption(image)
