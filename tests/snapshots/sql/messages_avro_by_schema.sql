CREATE TABLE `avro_by_schema` (
  `id` BIGINT,
  PRIMARY KEY (`id`) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'trades',
  'properties.bootstrap.servers' = 'broker:9092',
  'key.format' = 'hlink-avro',
  'key.hlink-avro.schema' = '{"type": "record", "name": "TKey", "fields": [{"name": "id", "type": "long"}]}',
  'value.format' = 'hlink-avro',
  'value.hlink-avro.schema' = '{"type": "record", "name": "T", "fields": [{"name": "id", "type": "long"}, {"name": "it''s", "type": ["null", "string"], "default": null}]}'
)
