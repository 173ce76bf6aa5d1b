CREATE TABLE `airports` (
  `code` STRING,
  `country` STRING,
  `city` ROW<`name` STRING, `people` BIGINT>
) WITH (
  'connector' = 'rest-lookup',
  'url' = 'http://airports:8080/find?full=1',
  'gid.connector.http.source.lookup.connection.timeout' = '1500 ms',
  'gid.connector.http.source.lookup.request.timeout' = '2',
  'gid.connector.http.source.lookup.http-version' = 'HTTP_1_1',
  'gid.connector.http.source.lookup.ignored-response-codes' = '404',
  'gid.connector.http.source.lookup.header.Accept-Charset' = 'gbk',
  'gid.connector.http.source.lookup.use-raw-authorization-header' = 'true',
  'gid.connector.http.source.lookup.header.Authorization' = '${secret:airports.gid.connector.http.source.lookup.header.Authorization}',
  'gid.connector.http.source.lookup.header.X-From' = 'hlink',
  'lookup.cache' = 'PARTIAL',
  'lookup.partial-cache.max-rows' = '100000',
  'lookup.partial-cache.expire-after-write' = '60000 ms',
  'format' = 'json',
  'json.timestamp-format.standard' = 'SQL'
)
