CREATE TABLE `__hlink_watched_messages` (
  `n` INT,
  `ts` TIMESTAMP(3),
  `seen` AS PROCTIME(),
  `__hlink_error` STRING METADATA FROM 'value.error' VIRTUAL,
  `__hlink_raw` BYTES METADATA FROM 'value.raw' VIRTUAL,
  `__hlink_topic` STRING METADATA FROM 'topic' VIRTUAL,
  `__hlink_partition` INT METADATA FROM 'partition' VIRTUAL,
  `__hlink_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  WATERMARK FOR `ts` AS `ts`
) WITH (
  'connector' = 'kafka',
  'topic' = 'watched',
  'properties.bootstrap.servers' = 'broker:9092',
  'properties.group.id' = 'features',
  'scan.startup.mode' = 'latest-offset',
  'scan.watermark.idle-timeout' = '1000 ms',
  'properties.sasl.jaas.config' = '${secret:__hlink_watched_messages.properties.sasl.jaas.config}',
  'format' = 'hlink-json',
  'hlink-json.on-error' = 'emit',
  'hlink-json.times' = '{"ts": "sql"}'
);

CREATE VIEW `watched` AS
SELECT `n`, `ts`, `seen`
FROM `__hlink_watched_messages` WHERE `__hlink_error` IS NULL;

CREATE TABLE `__hlink_watched_dead_letters` (
  `topic` STRING,
  `partition` INT,
  `offset` BIGINT,
  `error` STRING,
  `raw` BYTES,
  `text` STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'dead',
  'properties.bootstrap.servers' = 'broker:9092',
  'sink.partitioner' = 'round-robin',
  'properties.sasl.jaas.config' = '${secret:__hlink_watched_dead_letters.properties.sasl.jaas.config}',
  'format' = 'json',
  'json.timestamp-format.standard' = 'SQL'
);

INSERT INTO `__hlink_watched_dead_letters`
SELECT `__hlink_topic`, `__hlink_partition`, `__hlink_offset`, `__hlink_error`, `__hlink_raw`, DECODE(`__hlink_raw`, 'UTF-8')
FROM `__hlink_watched_messages` WHERE `__hlink_error` IS NOT NULL
