# FIFO queues of moto as SQS has them. moto's own look through every message for each call, forget a deduplication id with
# its message, number messages at random, take a receipt handle that has expired, and spin in a long poll (so that nothing
# else is served) while a group that is being worked on has more messages. Here each group is a list of its own:
#
# - A group's messages are handed out in the order in which they were sent, and none while one of them is in flight. One
#   whose visibility ends is the next again. A receive has as many of one group as there are, then those of the next; the
#   group whose next message is the oldest comes first.
#   https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html
# - A deduplication id counts for five minutes, also when its message is deleted, for the whole queue or for the group.
#   https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-messagededuplicationid-property.html
# - A dead letter has its message's id as its deduplication id, and is kept for as long as if it was sent now.
#   https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
# - What is not in flight (any more) can neither be deleted nor hidden.
#   https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html
#
# SQS looks for groups among its first 120,000 messages; here among all.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/avoid-backlog-with-the-same-message-group-id.html
import heapq
import time
from collections import OrderedDict, deque

from moto.sqs import exceptions, models

MOST_HIDDEN = 12 * 60 * 60 * 1000  # since it was received, in ms


class NotInFlight(exceptions.ReceiptHandleIsInvalid):  # which a batch answers per entry
    def __init__(self, handle, reason):
        super().__init__()
        self.code = "InvalidParameterValue"
        self.message = f"Value {handle} for parameter ReceiptHandle is invalid. Reason: {reason}"


class Group:
    def __init__(self):
        self.messages = deque()  # as sent; those in flight are among the first ten
        self.flying = 0
        self.queued = False  # among Fifo.ready


class Fifo(models.Queue):
    # A queue becomes one once moto has made it, so there is no __init__. All is done while _messages_lock is held.
    __module__ = models.__name__  # moto looks for the service's name in it

    def clear(self, _=None):
        self.groups = {}
        self.handles = {}  # messages by each receipt handle that they ever had
        self.ready = []  # a heap of the groups that have a message to hand out: its place, and the group
        self.timers = []  # a heap of when to look again, in ms, and at which message in flight, or which group
        self.count = self.flying = self.looks = 0

    def begin(self):
        self.sent = 0
        self.seen = OrderedDict()  # when what was sent of the last five minutes, by scope and deduplication id
        self.clear()

    # PurgeQueue sets the list of messages, which there is none of here.
    _messages = property(lambda self: self.messages, clear)

    @property
    def messages(self):
        now = time.time() * 1000
        every = (m for group in self.groups.values() for m in group.messages)
        return [m for m in every if not m.flying and m.delayed_until <= now]

    @property
    def approximate_number_of_messages_not_visible(self):
        with self._messages_lock:
            self.look(time.time() * 1000)
            return self.flying

    @property
    def approximate_number_of_messages_delayed(self):
        if not self.delay_seconds:
            return 0
        return self.count - self.approximate_number_of_messages_not_visible - len(self.messages)

    @property
    def approximate_number_of_messages(self):
        if self.delay_seconds:
            return len(self.messages)
        return self.count - self.approximate_number_of_messages_not_visible

    def add_message(self, message):
        with self._messages_lock:
            now = time.time()
            while self.seen and next(iter(self.seen.values()))[0] <= now - models.DEDUPLICATION_TIME_IN_SECONDS:
                self.seen.popitem(last=False)
            scope = message.group_id if self.deduplication_scope == "messageGroup" else None
            key = (scope, message.deduplication_id)
            if key in self.seen:  # it is the same message, so it is answered as such
                _, message.id, message.sequence_number = self.seen[key]
                return
            self.append(message)
            self.seen[key] = (now, message.id, message.sequence_number)

    def append(self, message):
        self.sent += 1
        message.place, message.flying = self.sent, False
        message.sequence_number = str(18849496460467696128 + 256 * self.sent)
        group = self.groups.setdefault(message.group_id, Group())
        group.messages.append(message)
        self.count += 1
        if len(group.messages) == 1:
            self.offer(group)

    # Hands a dead letter over; the time since which it is here is what a queue's retention counts from.
    def bury(self, message):
        with self._messages_lock:
            message.deduplication_id = message.id
            message.sent_timestamp = int(time.time() * 1000)
            message.visible_at = message.delayed_until = 0.0
            self.append(message)

    # The group has another first message, or none in flight any more.
    def offer(self, group):
        if group.flying or group.queued or not group.messages:
            return
        first = group.messages[0]
        if first.delayed_until > time.time() * 1000:
            self.look_at(first.delayed_until, None, group)
            return
        group.queued = True
        heapq.heappush(self.ready, (first.place, group))
        self._messages_lock.notify_all()

    def look_at(self, when, message, group):
        self.looks += 1  # of two at the same time, so that no message is compared with another
        heapq.heappush(self.timers, (when, self.looks, message, group))
        self._messages_lock.notify_all()  # who waits may have to wake earlier

    # Whose time has come?
    def look(self, now):
        while self.timers and self.timers[0][0] <= now:
            _, _, message, group = heapq.heappop(self.timers)
            if message is None:
                self.offer(group)
            elif message.flying and message.visible_at <= now:
                self.land(message)

    def land(self, message):
        group = self.groups[message.group_id]
        self.fly(message, group, False)
        self.offer(group)

    def fly(self, message, group, flying):
        message.flying = flying
        group.flying += 1 if flying else -1
        self.flying += 1 if flying else -1

    def drop(self, message):
        group = self.groups[message.group_id]
        group.messages.remove(message)  # quick: it is one of the first
        self.count -= 1
        for handle in message.all_receipt_handles:
            self.handles.pop(handle, None)
        if not group.messages:
            del self.groups[message.group_id]

    def receive(self, count, wait, visibility_timeout, attribute_names):
        end = (time.time() + wait) * 1000
        with self._messages_lock:
            while True:
                now = time.time() * 1000
                self.look(now)
                taken = self.take(count, now, visibility_timeout)
                if taken or now >= end:
                    break
                until = min(end, self.timers[0][0]) if self.timers else end
                self._messages_lock.wait(max(0.001, (until - now) / 1000))
        copies = []
        for message in taken:
            copy = object.__new__(models.Message)  # another receive gives the message another handle
            copy.__dict__.update(message.__dict__)
            models._filter_message_attributes(copy, attribute_names or [])
            copies.append(copy)
        return copies

    def take(self, count, now, visibility_timeout):
        taken, groups = [], []
        while self.ready and len(taken) < count:
            group = heapq.heappop(self.ready)[1]
            group.queued = False
            groups.append(group)
            at = 0
            while at < len(group.messages) and len(taken) < count:
                message = group.messages[at]
                if message.delayed_until > now:
                    break
                if message.sent_timestamp + self.message_retention_period * 1000 <= now:
                    self.drop(message)
                elif self.is_dead(message):
                    self.drop(message)
                    self.dead_letter_queue.bury(message)
                else:
                    self.hand_out(message, group, now, visibility_timeout)
                    taken.append(message)
                    at += 1
        for group in groups:
            self.offer(group)
        return taken

    def is_dead(self, message):
        return (
            self.dead_letter_queue is not None
            and self.redrive_policy
            and message.approximate_receive_count >= self.redrive_policy["maxReceiveCount"]
        )

    def hand_out(self, message, group, now, visibility_timeout):
        message.mark_received(visibility_timeout=visibility_timeout)
        message.received_at = now
        self.handles[message.receipt_handle] = message
        if message.visible_at > now:
            self.fly(message, group, True)
            self.look_at(message.visible_at, message, group)

    def in_flight(self, handle, reason):
        self.look(time.time() * 1000)
        message = self.handles.get(handle)
        if message is None:
            raise exceptions.ReceiptHandleIsInvalid()
        if not message.flying or message.receipt_handle != handle:
            raise NotInFlight(handle, reason)
        return message

    def delete_message(self, receipt_handle):
        with self._messages_lock:
            if receipt_handle in self.deleted_messages:
                return
            message = self.in_flight(receipt_handle, "The receipt handle has expired.")
            self.deleted_messages.update(message.all_receipt_handles)
            group = self.groups[message.group_id]
            self.fly(message, group, False)
            self.drop(message)
            self.offer(group)

    def change_visibility(self, handle, timeout):
        with self._messages_lock:
            message = self.in_flight(
                handle, "Message does not exist or is not available for visibility timeout change."
            )
            now = time.time() * 1000
            if now + timeout * 1000 - message.received_at > MOST_HIDDEN:
                raise exceptions.InvalidParameterValue(
                    f"Value {timeout} for parameter VisibilityTimeout is invalid. Reason: Total "
                    "VisibilityTimeout for the message is beyond the limit [43200 seconds]"
                )
            message.visible_at = now + timeout * 1000
            if timeout == 0:
                self.land(message)
                return
            self.look_at(message.visible_at, message, self.groups[message.group_id])


create_queue = models.SQSBackend.create_queue
receive_message = models.SQSBackend.receive_message
change_message_visibility = models.SQSBackend.change_message_visibility


def create(self, *args, **kwargs):
    queue = create_queue(self, *args, **kwargs)
    if queue.fifo_queue and not isinstance(queue, Fifo):
        queue.__class__ = Fifo
        queue.begin()
    return queue


def receive(self, queue_name, count, wait, visibility_timeout, attribute_names=None):
    queue = self.get_queue(queue_name)
    if isinstance(queue, Fifo):
        return queue.receive(count, wait, visibility_timeout, attribute_names)
    return receive_message(self, queue_name, count, wait, visibility_timeout, attribute_names)


def change_visibility(self, queue_name, receipt_handle, visibility_timeout):
    queue = self.get_queue(queue_name)
    if isinstance(queue, Fifo):
        return queue.change_visibility(receipt_handle, int(visibility_timeout))
    return change_message_visibility(self, queue_name, receipt_handle, visibility_timeout)


models.SQSBackend.create_queue = create
models.SQSBackend.receive_message = receive
models.SQSBackend.change_message_visibility = change_visibility
