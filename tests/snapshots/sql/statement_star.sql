INSERT INTO `delays` SELECT carrier, name, delay FROM (
  SELECT `f`.`carrier`, `f`.`delay`, `f`.`departure`, `f`.`plane`, `f`.`legs`, `f`.`tags`, `f`.`seen`, name FROM (SELECT *, PROCTIME() AS `__hlink_proctime` FROM flights) f JOIN airlines FOR SYSTEM_TIME AS OF `f`.`__hlink_proctime` a ON f.carrier = a.carrier
) AS enriched
