from __future__ import annotations

from fuseml_core.launcher.logs import KEPT, RotatingLog, last_lines


def test_logs_are_moved_aside_at_their_limit_and_only_a_few_stay(tmp_path):
    log = RotatingLog(tmp_path / "x.log", limit=1000)
    for number in range(100):
        log.write(f"line {number:03} {'x' * 90}\n".encode())
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["x.log", *(f"x.log.{n}" for n in range(1, KEPT + 1))]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert last_lines(tmp_path / "x.log", 1)[0].startswith("line 099")
    assert last_lines(tmp_path / "none.log") == []
