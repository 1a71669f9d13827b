"""What moto leaves out of RDS: from when to when an instance can be brought back, which is told of its automated backups."""

from moto.core.utils import utcnow
from moto.rds.models import DBInstanceAutomatedBackup


def restore_window(self):
    return {
        "EarliestTime": min(snapshot.created for snapshot in self.automated_snapshots),
        "LatestTime": utcnow(),
    }


DBInstanceAutomatedBackup.restore_window = property(restore_window)
