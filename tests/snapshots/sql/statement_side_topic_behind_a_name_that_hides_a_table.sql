INSERT INTO `delays` WITH flights AS (SELECT f.*, 1 AS n FROM flights f)
SELECT f.carrier, 'x', fare FROM flights f JOIN fares FOR SYSTEM_TIME AS OF `f`.`departure` AS `fares` ON f.carrier = fares.carrier
