//! What a frame says: every reply that is taken to mean something passes here, and is copied.

use bytes::Bytes;
use fred::error::{Error as FredError, ErrorKind};
use fred::interfaces::Resp3Frame;

use super::command::Command;
use super::error::{Error, Kind};

/// What an error of this side is to the caller.
pub(super) fn kind_of(error: &FredError) -> Kind {
    match error.kind() {
        ErrorKind::Timeout => Kind::Timeout,
        ErrorKind::InvalidArgument | ErrorKind::InvalidCommand | ErrorKind::Parse => Kind::Reply,
        _ => Kind::Connection,
    }
}

/// A copy of the bytes of a reply: fred's are a slice of everything that was read with them.
pub(super) fn text_or_nothing(
    command: Command,
) -> impl Fn(Resp3Frame) -> Result<Option<Bytes>, Error> {
    move |frame| match frame {
        Resp3Frame::BlobString { data, .. } => Ok(Some(Bytes::copy_from_slice(&data))),
        Resp3Frame::SimpleString { data, .. } => Ok(Some(Bytes::copy_from_slice(&data))),
        Resp3Frame::Number { data, .. } => Ok(Some(data.to_string().into())),
        Resp3Frame::Null => Ok(None),
        _ => Err(Error::new(Kind::Reply, command, "that is no string")),
    }
}

/// The next cursor and the keys of a page.
pub(super) fn page_of(frame: Resp3Frame) -> Option<(String, Vec<String>)> {
    let Resp3Frame::Array { data, .. } = frame else {
        return None;
    };
    let [cursor, Resp3Frame::Array { data: keys, .. }] = &data[..] else {
        return None;
    };
    let text = |frame: &Resp3Frame| match frame {
        Resp3Frame::BlobString { data, .. } => String::from_utf8(data.to_vec()).ok(),
        _ => None,
    };
    Some((text(cursor)?, keys.iter().filter_map(text).collect()))
}
