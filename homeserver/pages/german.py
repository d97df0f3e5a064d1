"""The German texts, by the English ones."""

from collections.abc import Mapping
from typing import Final

GERMAN: Final[Mapping[str, str]] = {
    "This did not work": "Das hat nicht geklappt",
    "This form is out of date, or your browser keeps no cookies."
    " Go back, reload the page, and try again.": "Dieses Formular ist veraltet, oder"
    " Ihr Browser behält keine Cookies. Gehen Sie zurück, laden Sie die Seite neu und"
    " versuchen Sie es noch einmal.",
}
