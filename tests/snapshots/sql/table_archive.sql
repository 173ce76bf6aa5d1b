CREATE TABLE `archive` (
  `carrier` STRING,
  `f` ROW<`mean` DOUBLE>,
  PRIMARY KEY (`carrier`) NOT ENFORCED
) WITH (
  'connector' = 'hbase-2.2',
  'table-name' = 'air:archive',
  'zookeeper.quorum' = 'zookeeper:2181',
  'zookeeper.znode.parent' = '/hbase',
  'sink.buffer-flush.max-size' = '2mb',
  'sink.buffer-flush.max-rows' = '1000',
  'sink.buffer-flush.interval' = '2s'
)
