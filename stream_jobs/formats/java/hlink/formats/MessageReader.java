package hlink.formats;

import java.io.Serializable;
import java.util.function.Consumer;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.table.data.GenericRowData;

/** Makes rows of one message, or throws an exception that says why it cannot. */
interface MessageReader extends Serializable {
    void open(DeserializationSchema.InitializationContext context) throws Exception;

    void read(byte[] message, Consumer<GenericRowData> rows) throws Exception;
}
