CREATE TABLE `select` (
  `order` STRING,
  `a``b;'c"` INT
) WITH (
  'connector' = 'kafka',
  'topic' = 'odd-topic',
  'properties.bootstrap.servers' = 'broker:9092',
  'properties.group.id' = 'it''s; a `group`',
  'scan.startup.mode' = 'specific-offsets',
  'scan.startup.specific-offsets' = 'partition:0,offset:42;partition:1,offset:300',
  'properties.sasl.jaas.config' = '${secret:select.properties.sasl.jaas.config}',
  'properties.security.protocol' = 'SASL_SSL',
  'format' = 'json',
  'json.timestamp-format.standard' = 'SQL'
)
