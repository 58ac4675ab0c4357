"""The one setting of the machine that labs change, and give back when the last one goes."""

from pathlib import Path

from lab import paths, record

# Each host's systemd watches files; the kernel's default is used up by a few hosts.
SETTING = Path("/proc/sys/fs/inotify/max_user_instances")
WANTED = 4096


def _before():
    """Return where the machine's own value is kept meanwhile: gone, like the raise, at reboot."""
    return paths.RUN_ROOT / SETTING.name


def raise_for_hosts(notify):
    """Let as many hosts watch files as the labs may have.

    Parameters:
        notify: called with a text while another command has to be waited for.
    """
    # Not while the last other lab takes it back.
    with record.held("limits", notify):
        found = int(SETTING.read_text())
        if found >= WANTED:
            return
        _before().parent.mkdir(parents=True, exist_ok=True)
        _before().write_text(str(found))
        SETTING.write_text(str(WANTED))


def restore_without_labs(notify):
    """Give the machine its own value back, unless a lab is left or somebody else changed it.

    Parameters:
        notify: called with a text while another command has to be waited for.
    """
    with record.held("limits", notify):
        # A folder that is being removed has a name that no lab can have.
        if any(not folder.name.startswith(".") for folder in paths.STATE_ROOT.glob("*")):
            return
        try:
            before = _before().read_text()
        except FileNotFoundError:
            return
        if int(SETTING.read_text()) == WANTED:
            SETTING.write_text(before)
        _before().unlink()
