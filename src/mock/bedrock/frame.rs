//! `application/vnd.amazon.eventstream`: a prelude of two lengths and their checksum, headers, a
//! payload, the checksum of it all. Source: Smithy 2.0, "Amazon event stream specification".

/// Bytes around headers and payload.
const OVERHEAD_BYTES: usize = 16;
/// The type of a header whose value is a string.
const STRING: u8 = 7;

/// One frame. Names have at most 255 bytes and values 65,535; longer ones are cut.
pub(super) fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        let name_bytes = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let value_bytes = u16::try_from(value.len()).unwrap_or(u16::MAX);
        head.push(name_bytes);
        head.extend(name.bytes().take(name_bytes.into()));
        head.push(STRING);
        head.extend(value_bytes.to_be_bytes());
        head.extend(value.bytes().take(value_bytes.into()));
    }
    let total = OVERHEAD_BYTES + head.len() + payload.len();
    let mut frame = Vec::with_capacity(total);
    frame.extend(u32::try_from(total).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend(head);
    frame.extend(payload);
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_equal_those_of_the_specification() {
        // The test vectors "empty message" and "payload no headers" of awslabs/aws-c-event-stream.
        let empty = [0, 0, 0, 16, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(frame(&[], b""), empty);
        let payload = b"{'foo':'bar'}";
        let mut expected = vec![0, 0, 0, 0x1d, 0, 0, 0, 0, 0xfd, 0x52, 0x8c, 0x5a];
        expected.extend(payload);
        expected.extend([0xc3, 0x65, 0x39, 0x36]);
        assert_eq!(frame(&[], payload), expected);
    }
}
