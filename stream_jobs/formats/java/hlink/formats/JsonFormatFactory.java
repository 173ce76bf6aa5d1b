package hlink.formats;

import java.util.Set;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.types.logical.RowType;

/** {@code 'format' = 'hlink-json'}: Flink's JSON with a spelling of its own for each time. */
public final class JsonFormatFactory extends MessageFormatFactory {
    /** Spellings by column: {@code {"ts": "auto", "payload": {"at": "epoch-seconds"}}}; one word holds for all below it. */
    private static final ConfigOption<String> TIMES = ConfigOptions.key("times").stringType().noDefaultValue();

    @Override
    public String factoryIdentifier() {
        return "hlink-json";
    }

    @Override
    MessageReader reader(ReadableConfig options, RowType columns) {
        return new JsonReader(columns, options.get(TIMES));
    }

    @Override
    Set<ConfigOption<?>> ownOptions() {
        return Set.of(TIMES);
    }
}
