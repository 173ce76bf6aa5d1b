INSERT INTO `delays` WITH named AS (
  SELECT `f`.`carrier`, `f`.`delay`, `f`.`departure`, `f`.`plane`, `f`.`legs`, `f`.`tags`, `f`.`seen`, a.name
  FROM (SELECT *, PROCTIME() AS `__hlink_proctime` FROM flights) f
  LEFT JOIN airlines FOR SYSTEM_TIME AS OF `f`.`__hlink_proctime` a ON f.carrier = a.carrier
)
SELECT carrier, name, AVG(delay)
FROM TUMBLE(TABLE named, DESCRIPTOR(departure), INTERVAL '1' HOUR)
GROUP BY carrier, name, window_start, window_end
;
INSERT INTO `totals` SELECT carrier, COUNT(*) FROM flights GROUP BY carrier
