"""The form: settings by mouse and keyboard."""
