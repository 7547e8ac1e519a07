# Runs moto's server. Its queues are mended first: how long they take, what threads do to one another, and which
# visibility timeout holds. So are the rules of its event buses. All else that they do is left as it is.
import runpy
import sys
import time

from moto.events.models import EventTemplateParser
from moto.sqs import models
from moto.sqs.responses import SQSResponse

# Python may hand over from one thread to another in the middle of a call. moto's queues know no locks, so a message that
# is sent while others are deleted could be lost, and one be given to two receivers. Without that, a thread hands over
# only where it waits.
sys.setswitchinterval(3600)

# For each message handed out, moto counts all messages of the queue several times over, on a slow clock: 15 ms a message
# at 200 waiting.
models.unix_time = time.time
models.unix_time_millis = lambda: time.time() * 1000


def is_retained(self, queue_name, message):
    return message.sent_timestamp / 1000 + self.get_queue(queue_name).message_retention_period > time.time()


models.SQSBackend.is_message_valid_based_on_retention_period = is_retained


# What a queue has for a visibility timeout holds for messages from the moment on in which they are handed out. moto
# reads it when a receiver comes, which may have to wait for a message: one sent a second after SetQueueAttributes would
# come back after the old time.
class OfTheQueue:
    def __init__(self, queue):
        self.queue = queue

    def __int__(self):
        return int(self.queue.visibility_timeout)


visibility_timeout_asked_for = SQSResponse._get_validated_visibility_timeout


def visibility_timeout(self, timeout=None):
    asked = timeout is not None or self._get_param("VisibilityTimeout") is not None
    if asked or self._get_action() != "ReceiveMessage":
        return visibility_timeout_asked_for(self, timeout)
    return OfTheQueue(self.sqs_backend.get_queue(self._get_queue_name()))


SQSResponse._get_validated_visibility_timeout = visibility_timeout


# A rule without an input transformer hands its targets the event as it is. moto rewrites it all the same, with a module
# that nothing else needs, and loses members.
def as_it_is(input_template, input_paths_map, event):
    return {name: value for name, value in event.items() if name != "ingestion-time"}


EventTemplateParser.parse = staticmethod(as_it_is)

runpy.run_module("moto.server", run_name="__main__", alter_sys=True)
