"""The German texts of messages, by the English ones."""

from collections.abc import Mapping
from typing import Final

GERMAN: Final[Mapping[str, str]] = {
    "If this was not you, ignore this message: nothing happens then.": "Wenn Sie das"
    " nicht waren, beachten Sie diese Nachricht nicht: Dann geschieht nichts.",
    "Confirm your e-mail address for {server}": "Bestätigen Sie Ihre E-Mail-Adresse"
    " für {server}",
    "Somebody, hopefully you, makes an account on {server} with this address.": ""
    "Jemand, hoffentlich Sie, legt mit dieser Adresse ein Konto auf {server} an.",
    "Somebody, hopefully you, adds this address to an account on {server}.": "Jemand,"
    " hoffentlich Sie, fügt diese Adresse einem Konto auf {server} hinzu.",
    "Confirm the address": "Adresse bestätigen",
    "Choose a new password for {server}": "Wählen Sie ein neues Passwort für {server}",
    "Somebody, hopefully you, wants a new password for the account {account}.": ""
    "Jemand, hoffentlich Sie, möchte ein neues Passwort für das Konto {account}.",
    "Confirm that it is you, and go back to where you began.": "Bestätigen Sie, dass"
    " Sie es sind, und kehren Sie dorthin zurück, wo Sie begonnen haben.",
    "It is me": "Ich bin es",
    "If this was not you, ignore this message: your password stays as it is.": "Wenn"
    " Sie das nicht waren, beachten Sie diese Nachricht nicht: Ihr Passwort bleibt,"
    " wie es ist.",
    "No account at {server} has this address": "Kein Konto auf {server} hat diese"
    " Adresse",
    "Somebody, hopefully you, wants a new password for an account on {server},"
    " but none has this address.": "Jemand, hoffentlich Sie, möchte ein neues"
    " Passwort für ein Konto auf {server}, aber keines hat diese Adresse.",
    "Perhaps you gave another address when you made your account.": "Vielleicht haben"
    " Sie eine andere Adresse angegeben, als Sie Ihr Konto anlegten.",
    "You have an account at {server}": "Sie haben ein Konto auf {server}",
    "Somebody, hopefully you, wants to use this address for an account on"
    " {server}. It belongs to the account {account} already.": "Jemand, hoffentlich"
    " Sie, möchte diese Adresse für ein Konto auf {server} verwenden. Sie gehört"
    " schon zum Konto {account}.",
    "If you have forgotten your password, have it reset in your app where you"
    " log in.": "Wenn Sie Ihr Passwort vergessen haben, lassen Sie es in Ihrer App"
    " dort zurücksetzen, wo Sie sich anmelden.",
    "Your account at {server} is ready": "Ihr Konto auf {server} ist bereit",
    "An administrator has approved your account {account}. You can log in now.": "Ihr"
    " Konto {account} ist freigegeben. Sie können sich jetzt anmelden.",
    "{brand}: unread messages on {server}": "{brand}: ungelesene Nachrichten auf"
    " {server}",
    "There is something that you have not read yet, {account}.": "Es gibt etwas, das"
    " Sie noch nicht gelesen haben, {account}.",
    "{count} more": "{count} weitere",
    "There is more in {count} other rooms.": "In {count} anderen Räumen gibt es mehr.",
    "An encrypted message": "Eine verschlüsselte Nachricht",
    "An invitation to this room": "Eine Einladung in diesen Raum",
    "Something that is no text": "Etwas, das kein Text ist",
    "I want no more of these e-mails": "Ich möchte keine solchen E-Mails mehr",
    "{code} is your code for {server}": "{code} ist Ihr Code für {server}",
}
