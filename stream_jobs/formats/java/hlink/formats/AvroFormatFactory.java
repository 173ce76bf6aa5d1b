package hlink.formats;

import java.util.Set;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.types.logical.RowType;

/** {@code 'format' = 'hlink-avro'}: Avro by the schema that the messages were written with; columns by their names. */
public final class AvroFormatFactory extends MessageFormatFactory {
    private static final ConfigOption<String> SCHEMA = ConfigOptions.key("schema").stringType().noDefaultValue();

    @Override
    public String factoryIdentifier() {
        return "hlink-avro";
    }

    @Override
    MessageReader reader(ReadableConfig options, RowType columns) {
        return new AvroReader(columns, options.get(SCHEMA));
    }

    @Override
    Set<ConfigOption<?>> ownOptions() {
        return Set.of(SCHEMA);
    }
}
