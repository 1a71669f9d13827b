"""Tells Backstay what a playbook does: one JSON object a line on standard output. Part of Backstay, written for each run."""

import json
import sys

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: backstay
type: stdout
short_description: one JSON object a line
description: What a playbook does, for Backstay.
"""

LONGEST = 4000


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "backstay"

    def tell(self, **event):
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()

    def v2_playbook_on_play_start(self, play):
        self.tell(event="play", name=str(play.get_name())[:LONGEST])

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.tell(event="task", name=str(task.get_name())[:LONGEST])

    def v2_playbook_on_handler_task_start(self, task):
        self.tell(event="task", name=str(task.get_name())[:LONGEST])

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if not ignore_errors:
            self.failed("failed", result)

    def v2_runner_on_unreachable(self, result):
        self.failed("unreachable", result)

    def failed(self, event, result):
        task, outcome = result._task, result._result
        if task.no_log or outcome.get("_ansible_no_log"):
            why = "not shown, as the task has no_log"
        else:
            parts = [outcome.get(key) for key in ("msg", "stderr", "module_stderr")]
            items = [item for item in outcome.get("results") or [] if isinstance(item, dict) and item.get("failed")]
            parts += [item.get(key) for item in items[:3] for key in ("msg", "stderr")]
            why = " / ".join(str(part).strip() for part in parts if part)
        self.tell(event=event, host=result._host.get_name(), task=str(task.get_name())[:LONGEST], why=why[:LONGEST])

    def v2_playbook_on_stats(self, stats):
        for host in sorted(stats.processed):
            of = stats.summarize(host)
            self.tell(
                event="host",
                host=host,
                ok=of["ok"],
                changed=of["changed"],
                failed=of["failures"] + of["unreachable"],
            )
        self.tell(event="end")
