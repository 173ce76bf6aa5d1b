INSERT INTO `delays` SELECT f.carrier, 'x', fare FROM flights f JOIN fares FOR SYSTEM_TIME AS OF `f`.`departure` AS `fares` ON f.carrier = fares.carrier
