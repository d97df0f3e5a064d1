"""The German texts, by the English ones."""

from collections.abc import Mapping
from typing import Final

GERMAN: Final[Mapping[str, str]] = {
    "This did not work": "Das hat nicht geklappt",
    "You are invited to {server}": "Sie sind eingeladen zu {server}",
    "This invite is not good any more": "Diese Einladung gilt nicht mehr",
    "With an account on this server you can talk with everybody on Matrix, here and"
    " elsewhere.": "Mit einem Konto auf diesem Server können Sie mit allen auf Matrix"
    " sprechen, hier und anderswo.",
    "Then choose an app, and tell it this server:": "Wählen Sie dann eine App, und"
    " nennen Sie ihr diesen Server:",
    "If you make the account in the app, it asks for this token:": "Wenn Sie das Konto"
    " in der App anlegen, fragt sie nach diesem Code:",
    "It was used, or has run out. Ask whoever invited you for another one.": "Sie wurde"
    " benutzt oder ist abgelaufen. Bitten Sie um eine neue.",
    "Done": "Fertig",
    "Confirm that it is you": "Bestätigen Sie, dass Sie es sind",
    "Go back to your app. You can close this page.": "Kehren Sie zu Ihrer App zurück."
    " Sie können diese Seite schließen.",
    "To make an account, accept these documents:": "Um ein Konto anzulegen,"
    " akzeptieren Sie diese Dokumente:",
    "Show that you are no robot. This needs scripts of another company.": "Zeigen"
    " Sie, dass Sie kein Roboter sind. Dafür werden Skripte einer anderen Firma"
    " geladen.",
    "E-mail address": "E-Mail-Adresse",
    "A message is on its way to {address}. Open the link in it, and then go on"
    " here.": "Eine Nachricht ist unterwegs an {address}. Öffnen Sie den Link darin,"
    " und machen Sie dann hier weiter.",
    "Country, in two letters": "Land, in zwei Buchstaben",
    "Phone number": "Telefonnummer",
    "A message with a code is on its way to {address}.": "Eine Nachricht mit einem"
    " Code ist unterwegs an {address}.",
    "Accept": "Akzeptieren",
    "Go on": "Weiter",
    "The captcha was not solved. Try again.": "Das Captcha wurde nicht gelöst."
    " Versuchen Sie es noch einmal.",
    "The address is not confirmed yet.": "Die Adresse ist noch nicht bestätigt.",
    "This has run out. Go back to your app and begin again.": "Das ist abgelaufen."
    " Kehren Sie zu Ihrer App zurück und beginnen Sie noch einmal.",
    "An administrator of this server has to approve this account first.": "Dieses"
    " Konto muss erst von der Administration dieses Servers freigegeben werden.",
    "This server takes no more users.": "Dieser Server nimmt keine weiteren Personen"
    " auf.",
    "Confirm your e-mail address": "Bestätigen Sie Ihre E-Mail-Adresse",
    "The address is confirmed": "Die Adresse ist bestätigt",
    "Go back to where you began. You can close this page.": "Kehren Sie dorthin zurück,"
    " wo Sie begonnen haben. Sie können diese Seite schließen.",
    "Go on to {host}": "Weiter zu {host}",
    "Confirm the address": "Adresse bestätigen",
    "No more e-mails": "Keine E-Mails mehr",
    "No more e-mails about unread messages?": "Keine E-Mails über ungelesene"
    " Nachrichten mehr?",
    "No more e-mails about unread messages will be sent. You can close this page.": ""
    "Es werden keine E-Mails über ungelesene Nachrichten mehr gesendet. Sie können"
    " diese Seite schließen.",
    "Send no more e-mails": "Keine E-Mails mehr senden",
    "In your app you can ask for them again.": "In Ihrer App können Sie wieder darum"
    " bitten.",
    "These e-mails are not sent any more.": "Diese E-Mails werden nicht mehr gesendet.",
    "If you did not ask for this, close this page.": "Wenn Sie das nicht wollten,"
    " schließen Sie diese Seite.",
    "This has run out, or the code is wrong. Begin again.": "Das ist abgelaufen, oder"
    " der Code ist falsch. Beginnen Sie noch einmal.",
    "This form is out of date, or your browser keeps no cookies."
    " Go back, reload the page, and try again.": "Dieses Formular ist veraltet, oder"
    " Ihr Browser behält keine Cookies. Gehen Sie zurück, laden Sie die Seite neu und"
    " versuchen Sie es noch einmal.",
    "Log in": "Anmelden",
    "User name": "Benutzername",
    "Password": "Passwort",
    "Make an account": "Konto anlegen",
    "User name or password are wrong.": "Benutzername oder Passwort ist falsch.",
    "Others will know you as @name:{server}. It cannot be changed later.": (
        "Andere kennen Sie dann als @name:{server}. Das lässt sich später nicht ändern."
    ),
    "At least {number} characters.": "Mindestens {number} Zeichen.",
    "Password, once more": "Passwort noch einmal",
    "Registration token": "Einladungscode",
    "From whoever invited you.": "Von der Person, die Sie eingeladen hat.",
    "Accounts are made by the administrator of this server.": (
        "Konten legt die Verwaltung dieses Servers an."
    ),
    "I have an account": "Ich habe ein Konto",
    "Allow {client}?": "{client} zulassen?",
    "{client} wants to use your account:": "{client} möchte Ihr Konto benutzen:",
    "read and send messages as you,": "in Ihrem Namen Nachrichten lesen und senden,",
    "see and change your rooms, contacts and profile.": (
        "Ihre Räume, Kontakte und Ihr Profil sehen und ändern."
    ),
    "Your account": "Ihr Konto",
    "The app is from": "Die App kommt von",
    "Its device": "Ihr Gerät",
    "What it does with your data": "Was sie mit Ihren Daten macht",
    "Its terms of use": "Ihre Nutzungsbedingungen",
    "Allow it only if you have just wanted to log in with it.": (
        "Lassen Sie das nur zu, wenn Sie sich gerade damit anmelden wollten."
    ),
    "Allow": "Zulassen",
    "Do not allow": "Nicht zulassen",
    "Use another account": "Ein anderes Konto benutzen",
    "Link a new device": "Neues Gerät verbinden",
    "The new device shows a code of eight letters.": (
        "Das neue Gerät zeigt einen Code aus acht Buchstaben."
    ),
    "Code": "Code",
    "Continue": "Weiter",
    "Link {client}?": "{client} verbinden?",
    "A device with {client} wants to use your account:": (
        "Ein Gerät mit {client} möchte Ihr Konto benutzen:"
    ),
    "Allow it only if the device is before you and shows this very code. "
    "Nobody may ask you to do this on the telephone or in a message.": (
        "Lassen Sie das nur zu, wenn das Gerät vor Ihnen liegt und genau "
        "diesen Code zeigt. Niemand darf Sie am Telefon oder in einer "
        "Nachricht darum bitten."
    ),
    "The device is linked": "Das Gerät ist verbunden",
    "The device is not linked": "Das Gerät ist nicht verbunden",
    "Go on at the device. You can close this page.": (
        "Machen Sie am Gerät weiter. Diese Seite können Sie schließen."
    ),
    "No device waits with this code. It may have taken too long.": (
        "Mit diesem Code wartet kein Gerät. Vielleicht hat es zu lange gedauert."
    ),
    "Name that others see": "Name, den andere sehen",
    "Save": "Speichern",
    "Your devices": "Ihre Geräte",
    "Reset your cryptographic identity": "Kryptografische Identität zurücksetzen",
    "End your account": "Konto auflösen",
    "Log out of this browser": "In diesem Browser abmelden",
    "last seen: {when}": "zuletzt gesehen: {when}",
    "No device is logged in.": "Kein Gerät ist angemeldet.",
    "Device": "Gerät",
    "Last seen": "Zuletzt gesehen",
    "Address": "Adresse",
    "Log this device out": "Dieses Gerät abmelden",
    "This ends {user} for good: you leave all rooms, and nobody can ever "
    "have this name again.": (
        "Damit endet {user} endgültig: Sie verlassen alle Räume, und niemand "
        "kann diesen Namen je wieder haben."
    ),
    "Hide my messages from people who come later": (
        "Meine Nachrichten vor Leuten verbergen, die später kommen"
    ),
    "End my account for good": "Mein Konto endgültig auflösen",
    "Do this only if you have lost all your devices and your recovery key. "
    "Others will be told that your identity has changed, and you may lose "
    "old messages.": (
        "Tun Sie das nur, wenn Sie alle Geräte und den "
        "Wiederherstellungsschlüssel verloren haben. Anderen wird gesagt, "
        "dass Ihre Identität sich geändert hat, und alte Nachrichten können "
        "verloren gehen."
    ),
    "Allow the reset": "Zurücksetzen zulassen",
    "Your account has ended": "Ihr Konto ist aufgelöst",
    "The reset is allowed": "Das Zurücksetzen ist zugelassen",
    "Go on in your app within ten minutes. You can close this page.": (
        "Machen Sie innerhalb von zehn Minuten in Ihrer App weiter. Diese "
        "Seite können Sie schließen."
    ),
    "You have no such device.": "Ein solches Gerät haben Sie nicht.",
    "The password is too short.": "Das Passwort ist zu kurz.",
    "The two passwords are not the same.": "Die beiden Passwörter sind nicht gleich.",
    "Choose a user name.": "Wählen Sie einen Benutzernamen.",
    "Nobody can register on this server.": (
        "Auf diesem Server kann sich niemand registrieren."
    ),
    "The registration token is not valid.": "Der Einladungscode gilt nicht.",
    "This session has ended. Begin again.": (
        "Das hat zu lange gedauert. Fangen Sie noch einmal an."
    ),
    "This server does not know the app that sent you here. Begin again there.": (
        "Dieser Server kennt die App nicht, von der Sie kommen. Fangen Sie "
        "dort noch einmal an."
    ),
    "The app that sent you here wants the answer at an address that is not "
    "known to be its own.": (
        "Die App, von der Sie kommen, will die Antwort an eine Adresse "
        "haben, die nicht als ihre bekannt ist."
    ),
    "Log in at {app}?": "Bei {app} anmelden?",
    "The app at {app} will be able to use your account:": (
        "Die App bei {app} kann dann Ihr Konto benutzen:"
    ),
    "The answer goes to": "Die Antwort geht an",
    "Continue with {provider}": "Weiter mit {provider}",
    "This provider speaks no SAML.": "Dieser Anmeldedienst spricht kein SAML.",
    "Nobody logs in with a password on this server.": (
        "Auf diesem Server meldet sich niemand mit einem Passwort an."
    ),
    "Passwords cannot be checked now.": (
        "Passwörter können gerade nicht geprüft werden."
    ),
    "Welcome": "Willkommen",
    "{provider} says who you are, but nobody here knows you yet.": (
        "{provider} sagt, wer Sie sind, aber hier kennt Sie noch niemand."
    ),
    "Your name there": "Ihr Name dort",
    "Log in to it once, and from then on with {provider} too.": (
        "Melden Sie sich einmal damit an, und von da an auch mit {provider}."
    ),
    "Link this account": "Dieses Konto verbinden",
    "This took too long. Begin again.": (
        "Das hat zu lange gedauert. Fangen Sie noch einmal an."
    ),
    "Accept the documents first.": "Akzeptieren Sie erst die Dokumente.",
    "The log-in there did not work. Try again.": (
        "Die Anmeldung dort hat nicht geklappt. Versuchen Sie es noch einmal."
    ),
    "This log-in was not begun here, or too long ago. Begin again.": (
        "Diese Anmeldung wurde nicht hier begonnen, oder vor zu langer Zeit. Fangen"
        " Sie noch einmal an."
    ),
    "Your account there may not be used here.": (
        "Ihr Konto dort darf hier nicht benutzt werden."
    ),
    "The other side did not log you in.": "Die andere Seite hat Sie nicht angemeldet.",
    "This is the account of somebody else there.": (
        "Das ist dort das Konto von jemand anderem."
    ),
    "This server knows no such identity provider.": (
        "Dieser Server kennt keinen solchen Anmeldedienst."
    ),
    "An app wants to log out devices of {user}.": (
        "Eine App möchte Geräte von {user} abmelden."
    ),
    "An app wants to end {user} for good.": (
        "Eine App möchte {user} endgültig auflösen."
    ),
    "An app wants to add an address to {user}.": (
        "Eine App möchte {user} eine Adresse hinzufügen."
    ),
    "An app wants to set up the cryptographic identity of {user}.": (
        "Eine App möchte die kryptografische Identität von {user} einrichten."
    ),
    "An app wants to log in another device as {user}.": (
        "Eine App möchte ein weiteres Gerät als {user} anmelden."
    ),
    "An app wants to set the password of {user}.": (
        "Eine App möchte das Passwort von {user} setzen."
    ),
    "An app wants to do something as {user}.": (
        "Eine App möchte etwas als {user} tun."
    ),
    "The app that sent you here did not say where it wants the answer.": (
        "Die App, von der Sie kommen, sagt nicht, wohin sie die Antwort haben will."
    ),
}
