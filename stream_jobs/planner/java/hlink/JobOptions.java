package hlink;

import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.ExecutionOptions;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.configuration.StateChangelogOptions;
import org.apache.flink.configuration.StateLatencyTrackOptions;
import org.apache.flink.configuration.StateRecoveryOptions;
import org.apache.flink.state.rocksdb.RocksDBConfigurableOptions;
import org.apache.flink.state.rocksdb.RocksDBOptions;
import org.apache.flink.table.api.config.ExecutionConfigOptions;
import org.apache.flink.table.api.config.OptimizerConfigOptions;
import org.apache.flink.table.api.config.TableConfigOptions;

/** The options that Flink knows for a job. It takes others without a word, and a wrong value only when it is used. */
final class JobOptions {
    private static final List<Class<?>> DECLARED_IN =
            List.of(
                    CheckpointingOptions.class,
                    ExecutionConfigOptions.class,
                    ExecutionOptions.class,
                    OptimizerConfigOptions.class,
                    PipelineOptions.class,
                    RestartStrategyOptions.class,
                    RocksDBConfigurableOptions.class,
                    RocksDBOptions.class,
                    StateBackendOptions.class,
                    StateChangelogOptions.class,
                    StateLatencyTrackOptions.class,
                    StateRecoveryOptions.class,
                    TableConfigOptions.class);

    private static final Map<String, ConfigOption<?>> KNOWN = known();

    private JobOptions() {}

    /** What is wrong with these options, by their names; empty when Flink can read them all. */
    static Map<String, String> faults(Map<String, String> options) {
        Configuration given = Configuration.fromMap(options);
        Map<String, String> faults = new LinkedHashMap<>();
        for (String name : options.keySet()) {
            ConfigOption<?> option = KNOWN.get(name);
            if (option == null) {
                faults.put(name, "Flink has no such option for a job");
                continue;
            }
            try {
                given.getOptional(option);
            } catch (IllegalArgumentException e) {
                Throwable innermost = e;
                while (innermost.getCause() != null) {
                    innermost = innermost.getCause();
                }
                faults.put(name, String.valueOf(innermost.getMessage()));
            }
        }
        return faults;
    }

    private static Map<String, ConfigOption<?>> known() {
        Map<String, ConfigOption<?>> found = new HashMap<>();
        for (Class<?> declaring : DECLARED_IN) {
            for (Field field : declaring.getFields()) {
                if (Modifier.isStatic(field.getModifiers()) && ConfigOption.class.isAssignableFrom(field.getType())) {
                    try {
                        ConfigOption<?> option = (ConfigOption<?>) field.get(null);
                        found.put(option.key(), option);
                    } catch (IllegalAccessException e) {
                        throw new IllegalStateException(e);
                    }
                }
            }
        }
        return found;
    }
}
