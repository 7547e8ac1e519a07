# Runs moto's server. Its queues are mended first: what they do is left as it is, but not how long it takes and what
# threads do to one another. So are the rules of its event buses.
import runpy
import sys
import time

from moto.events.models import EventTemplateParser
from moto.sqs import models

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


# A rule without an input transformer hands its targets the event as it is. moto rewrites it all the same, with a module
# that nothing else needs, and loses members.
def as_it_is(input_template, input_paths_map, event):
    return {name: value for name, value in event.items() if name != "ingestion-time"}


EventTemplateParser.parse = staticmethod(as_it_is)

runpy.run_module("moto.server", run_name="__main__", alter_sys=True)
