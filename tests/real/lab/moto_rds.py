"""What moto leaves out of RDS: from when to when an instance can be brought back, which is told of its automated backups, and of which
instance they are."""

from moto.core.utils import utcnow
from moto.rds.models import DBInstanceAutomatedBackup


def restore_window(self):
    return {
        "EarliestTime": min(snapshot.created for snapshot in self.automated_snapshots),
        "LatestTime": utcnow(),
    }


def dbi_resource_id(self):
    return self.automated_snapshots[0].dbi_resource_id


DBInstanceAutomatedBackup.dbi_resource_id = property(dbi_resource_id)
DBInstanceAutomatedBackup.restore_window = property(restore_window)
