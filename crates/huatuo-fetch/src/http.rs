//! Reading over HTTP, whatever the platform: a busy host is asked again.

use std::ops::Range;

use crate::patience::Patience;
use crate::reply::range_header;
use crate::{FetchError, platform};

/// Reads a URL whole or one range of it.
///
/// # Errors
/// [`FetchError::Busy`] if the host stays busy; any other failure at once.
pub(crate) async fn get(url: &str, range: Option<Range<u64>>, patience: &Patience) -> Result<Vec<u8>, FetchError> {
    let mut attempts = 0;
    loop {
        let result = platform::http_get(url, range.clone(), patience.silence).await;
        let Err(FetchError::Busy { retry_after_s, .. }) = result else { return result };
        attempts += 1;
        let request = format!("{url} {}", range.as_ref().map(range_header).unwrap_or_default());
        match patience.wait(attempts, retry_after_s, &request) {
            Some(wait) => platform::sleep(wait).await,
            None => return result,
        }
    }
}
