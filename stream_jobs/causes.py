"""Why a job failed, in words: Flink's chain of exceptions to one sentence with a remedy.

What stands at the end of the chain is the cause; what stands before it only says where it was met. Flink wraps much:
a division by zero in a statement comes inside of "Failed to deserialize consumer record", because the source calls
what follows it. So a rule looks at the deepest cause, and at the whole chain only for what nothing deeper explains.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

_compiled = partial(re.compile, flags=re.DOTALL)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A failure that users meet: what it is, and what helps."""

    sentence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.sentence}: {self.remedy}."


@dataclass(frozen=True, slots=True)
class _Rule:
    """``pattern`` is searched in the deepest cause, or, where ``anywhere``, in the whole chain. Its named groups fill
    the sentence; ``unless`` is what the chain must not have."""

    pattern: re.Pattern[str]
    sentence: str
    remedy: str
    anywhere: bool = False
    unless: re.Pattern[str] | None = None


_LOOK_INTO_TASK_MANAGER = (
    "look into that TaskManager's log for the reason; memory that ran out and a machine that was restarted are the "
    "usual ones, and a database that refuses a sink's row ends a TaskManager, too"
)

_RULES = (
    # Memory first: what runs out of it may break anywhere.
    _Rule(
        _compiled(r"OutOfMemoryError: Metaspace"),
        "A TaskManager has no memory left for classes",
        "restart it, and raise taskmanager.memory.jvm-metaspace.size",
        anywhere=True,
    ),
    _Rule(
        _compiled(r"OutOfMemoryError: (?:Cannot reserve|Direct buffer|Could not allocate enough memory segments)"),
        "A TaskManager has no direct memory left",
        "raise taskmanager.memory.task.off-heap.size, or lower the parallelism",
        anywhere=True,
    ),
    _Rule(
        _compiled(r"OutOfMemoryError"),
        "A TaskManager ran out of heap memory",
        "raise taskmanager.memory.process.size, keep large state in RocksDB (checkpointStatebackendType 2), give state "
        "a time to live, or make what the statement holds at once smaller",
        anywhere=True,
    ),
    # The cluster
    _Rule(
        _compiled(
            r"Heartbeat of TaskManager with id (?P<id>\S+) timed out|TaskManager with id (?P<id2>\S+) is no longer "
            r"reachable|The TaskExecutor is shutting down|Connection unexpectedly closed by remote task manager"
            r"|Lost connection to task manager|RemoteTransportException|TaskExecutor .* has no more allocated slots"
        ),
        "A TaskManager was lost",
        _LOOK_INTO_TASK_MANAGER,
        anywhere=True,
    ),
    _Rule(
        _compiled(r"NoResourceAvailableException|Could not acquire the minimum required resources"),
        "The cluster has not enough free slots",
        "stop another job, add a TaskManager, or lower the parallelism",
        anywhere=True,
    ),
    _Rule(
        _compiled(r"(?:ClassNotFoundException|NoClassDefFoundError): (?P<class>[\w.$/]+)"),
        "The class {class} is not on the cluster",
        "put what has it into the jar of the job or function, or into the cluster's lib folder, and mind that the "
        "versions of Flink and connectors are the same on both sides",
        anywhere=True,
    ),
    _Rule(
        _compiled(
            r"(?:NoSuchMethodError|NoSuchFieldError|IncompatibleClassChangeError|AbstractMethodError): (?P<name>\S+)"
        ),
        "A class on the cluster is of another version ({name})",
        "build the jar against the versions that the cluster has in its lib folder",
        anywhere=True,
    ),
    # Databases; their drivers say what they refuse.
    _Rule(
        _compiled(
            r"duplicate key value violates unique constraint \"(?P<key>[^\"]+)\""
            r"|Duplicate entry '.*' for key '(?P<key2>[^']+)'|ORA-00001: [^(]*\((?P<key3>[^)]+)\)"
        ),
        "The database refused a row, because its key is there already ({key})",
        "declare the sink's primary_key, so that rows are updated, or make the statement's keys unique",
        anywhere=True,
    ),
    _Rule(
        _compiled(
            r"null value in column \"(?P<column>[^\"]+)\"|Column '(?P<column2>[^']+)' cannot be null"
            r"|ORA-01400: [^(]*\((?P<column3>[^)]+)\)"
        ),
        "The database refused a row, because {column} must not be null",
        "leave such rows out with WHERE ... IS NOT NULL, or give a value with COALESCE",
        anywhere=True,
    ),
    _Rule(
        _compiled(
            r"value too long for type|Data too long for column|ORA-12899|numeric field overflow|Out of range value"
        ),
        "The database refused a row, because a value does not fit into its column",
        "make the column wider, or cut the value in the statement",
        anywhere=True,
    ),
    _Rule(
        _compiled(
            r"PSQLException: ERROR: relation \"(?P<table>[^\"]+)\" does not exist"
            r"|Table '(?P<table2>[^']+)' doesn't exist|ORA-00942"
        ),
        "A table is not in the database any more ({table})",
        "create it again, or correct table_name",
        anywhere=True,
    ),
    _Rule(
        _compiled(r"password authentication failed|Access denied for user|ORA-01017|permission denied for"),
        "The database refused the user",
        "correct connector_username and connector_password, or grant the user what the table needs",
        anywhere=True,
    ),
    _Rule(
        _compiled(
            r"PSQLException: (?:Connection to (?P<place>\S+) refused|The connection attempt failed)"
            r"|CommunicationsException|Communications link failure|ORA-12541|ORA-17002"
            r"|PSQLException: (?:This connection has been closed|An I/O error occurred|FATAL: terminating connection)"
            r"|FATAL: sorry, too many clients|FATAL: remaining connection slots"
        ),
        "The database does not answer ({place})",
        "start it, see to its way from the TaskManagers and its limit of connections, or correct connector_url",
        anywhere=True,
    ),
    # Kafka's transactions, before its other time-outs
    _Rule(
        _compiled(r"transaction timeout is larger than the maximum value allowed"),
        "The sink's transactions may take longer than the broker allows",
        "lower transaction.timeout.ms in the sink's properties, or raise the broker's transaction.max.timeout.ms",
        anywhere=True,
    ),
    _Rule(
        _compiled(
            r"InvalidTxnStateException|ProducerFencedException|InvalidProducerEpochException|InvalidPidMappingException"
            r"|TransactionAbortedException|transactional id.*(?:expired|fenced)"
        ),
        "A transaction of the sink was ended by the broker, because it took too long or another job has its prefix",
        "raise transaction.timeout.ms in the sink's properties above checkpoint interval and longest pause, and run "
        "no second job with the same transactions; what was not committed may have to be fed again",
        anywhere=True,
    ),
    # Kafka
    _Rule(
        _compiled(
            r"UnknownTopicOrPartitionException|UnknownTopicIdException|Topic (?P<topic>\S+) not present in metadata"
            r"|topic\(s\) (?P<topic2>\[[^\]]+\])"
        ),
        "A topic is not there any more ({topic})",
        "create it again, or correct connector_topic; the offsets of a topic that was deleted are of no use to the new "
        "one: start the job without its state",
        anywhere=True,
    ),
    _Rule(
        _compiled(r"RecordTooLargeException"),
        "A row is larger than the broker takes",
        "raise max.request.size in the sink's properties and message.max.bytes of the topic, or make the row smaller",
        anywhere=True,
    ),
    _Rule(
        _compiled(r"(?:Topic|Group|TransactionalId|Cluster)AuthorizationException|SaslAuthenticationException"),
        "The broker does not let the job in",
        "correct the credentials in the table's properties, or grant what topic, group and transactions need",
        anywhere=True,
    ),
    _Rule(
        _compiled(
            r"(?:org\.apache\.kafka|kafka)\S*(?:TimeoutException|DisconnectException|NetworkException|"
            r"BrokerNotAvailableException|CoordinatorNotAvailableException)|Expiring \d+ record\(s\)"
            r"|No resolvable bootstrap urls|Failed to construct kafka|Failed to list subscribed topic partitions"
        ),
        "The Kafka broker does not answer",
        "start it, see to its way from the TaskManagers (its advertised listeners, too), or correct bootstrap_servers",
        anywhere=True,
    ),
    _Rule(
        _compiled(r"OffsetOutOfRangeException|NoOffsetForPartitionException"),
        "The offsets to go on from are not in the topic any more",
        "choose another startup_mode, and start the job without its state",
        anywhere=True,
    ),
    # Checkpoints
    _Rule(
        _compiled(r"Checkpoint expired before completing"),
        "A checkpoint was not complete in time",
        "look at the job's back-pressure, raise checkpointTimeout, or set "
        "execution.checkpointing.unaligned.enabled in parms",
        anywhere=True,
    ),
    _Rule(
        _compiled(r"Exceeded checkpoint tolerable failure threshold|Could not materialize checkpoint"),
        "Checkpoints failed",
        "see to the folder of the checkpoints (is it full, can every TaskManager write there?), and look at the job's "
        "failed checkpoints in its overview",
        anywhere=True,
    ),
    _Rule(
        _compiled(r"StateMigrationException|StateMigration"),
        "The state does not fit the statement any more",
        "start the job without its state, or put the statement back",
        anywhere=True,
    ),
    # The user's own data and statements, by the deepest cause
    _Rule(
        _compiled(r"ArithmeticException: / by zero|Division by zero|Division undefined"),
        "The statement divides by zero",
        "guard the divisor with NULLIF(divisor, 0)",
    ),
    _Rule(
        _compiled(r"NumberFormatException: (?P<what>.*)|DateTimeException: (?P<what2>.*)|Casting .* failed"),
        "The statement casts a value that cannot be cast ({what})",
        "use TRY_CAST, which gives NULL instead",
        unless=_compiled(r"JsonParseException"),
    ),
    _Rule(
        _compiled(r"Column '(?P<column>[^']+)' is NOT NULL, however, a null value is being written"),
        "The statement gives NULL for {column}, which must not be null",
        "give a value with COALESCE, or leave such rows out",
        anywhere=True,
    ),
    _Rule(
        _compiled(
            r"Failed to deserialize|A message cannot be read|JsonParseException|JsonToRowDataConverters"
            r"|InvalidMagicNumberException|AvroTypeException"
        ),
        "A message cannot be read by the columns of its table",
        "set on_parse_error of the source to skip or dead-letter, or correct the columns and their times",
        anywhere=True,
        unless=_compiled(r"ExceptionInChainedOperatorException"),
    ),
)


def chain(stacktrace: str) -> list[str]:
    """The exceptions of a Java stack trace with their messages, from the outermost to the deepest.

    Causes are at the beginning of a line; indented ones belong to suppressed exceptions.
    """
    found: list[str] = []
    reading = True
    for line in stacktrace.strip().splitlines():
        if line.startswith("<Exception on server side:"):
            continue
        if line.startswith("Caused by: "):
            found.append(line.removeprefix("Caused by: "))
            reading = True
        elif line.startswith(("\tat ", "\t...", "\tSuppressed: ", "End of exception on server side")):
            reading = False
        elif not found:
            found.append(line)
        elif reading:
            found[-1] += f"\n{line}"
    return [text.strip() for text in found]


def explained(stacktrace: str) -> Explanation | None:
    """What a stack trace of Flink's means; None for one that no rule knows."""
    causes = chain(stacktrace)
    if not causes:
        return None
    whole = "\n".join(causes)
    for rule in _RULES:
        met = rule.pattern.search(whole if rule.anywhere else causes[-1])
        if met is not None and not (rule.unless and rule.unless.search(whole)):
            return Explanation(_filled(rule.sentence, met), rule.remedy)
    return None


def told(stacktrace: str, root_cause: str) -> str:
    """For a person: the sentence with its remedy, and the deepest cause after it; that alone where no rule knows it."""
    found = explained(stacktrace)
    return root_cause if found is None else f"{found} The cause: {root_cause}"


def _filled(sentence: str, met: re.Match[str]) -> str:
    # A name may come from one of several alternatives: name, name2, name3.
    values: dict[str, str] = {}
    for name, value in met.groupdict().items():
        if value:
            shown = value.strip()[:200]
            values.setdefault(name.rstrip("0123456789"), shown.replace("/", ".") if name == "class" else shown)
    text = re.sub(r"\{(\w+)\}", lambda place: values.get(place[1], ""), sentence)
    return text.replace(" ()", "").strip()
