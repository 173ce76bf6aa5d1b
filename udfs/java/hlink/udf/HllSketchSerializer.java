package hlink.udf;

import java.io.IOException;
import org.apache.datasketches.hll.HllSketch;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** A sketch in Flink's state, in the library's own compact form with its length before it. */
public final class HllSketchSerializer extends TypeSerializerSingleton<HllSketch> {
    public static final HllSketchSerializer INSTANCE = new HllSketchSerializer();

    @Override
    public boolean isImmutableType() {
        return false;
    }

    @Override
    public HllSketch createInstance() {
        return new HllSketch(ApproxDistinct.LOG_K, ApproxDistinct.TYPE);
    }

    @Override
    public HllSketch copy(HllSketch from) {
        return from.copy();
    }

    @Override
    public HllSketch copy(HllSketch from, HllSketch reuse) {
        return from.copy();
    }

    @Override
    public int getLength() {
        return -1;
    }

    @Override
    public void serialize(HllSketch sketch, DataOutputView target) throws IOException {
        byte[] bytes = sketch.toCompactByteArray();
        target.writeInt(bytes.length);
        target.write(bytes);
    }

    @Override
    public HllSketch deserialize(DataInputView source) throws IOException {
        byte[] bytes = new byte[source.readInt()];
        source.readFully(bytes);
        return HllSketch.heapify(bytes);
    }

    @Override
    public HllSketch deserialize(HllSketch reuse, DataInputView source) throws IOException {
        return deserialize(source);
    }

    @Override
    public void copy(DataInputView source, DataOutputView target) throws IOException {
        int length = source.readInt();
        target.writeInt(length);
        target.write(source, length);
    }

    @Override
    public TypeSerializerSnapshot<HllSketch> snapshotConfiguration() {
        return new Snapshot();
    }

    /** What a savepoint says of this serializer. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<HllSketch> {
        public Snapshot() {
            super(() -> INSTANCE);
        }
    }
}
