//! Typed connections, as streams and sinks.

use futures_util::{SinkExt, StreamExt, stream};
use parlour::{ErrorKind, Transport, TryRecvError};

use crate::support::trials;
use crate::tasks::{Link, run};

trials! {
    for transport in Transport::ALL =>
        values_pass_each_way,
        a_stream_of_values_goes_on_after_a_message_that_is_not_a_value,
        values_in_json_pass_each_way_and_others_are_errors;
}

fn values_pass_each_way(transport: Transport) {
    run(async {
        let Link { client, served, .. } = Link::new(transport).await;
        let mut client = client.typed::<(u32, String), Option<u64>>();
        let mut served = served.typed::<Option<u64>, (u32, String)>();
        assert!(matches!(served.try_recv(), Err(TryRecvError::Empty)));
        client.send(&(7, "seven".to_owned())).await.unwrap();
        assert_eq!(served.recv().await.unwrap(), Some((7, "seven".to_owned())));

        let asking = async {
            let mut values = stream::iter((0..500).map(|number| Ok((number, "x".repeat(number as usize)))));
            client.send_all(&mut values).await.unwrap();
            client.feed(&(500, String::new())).await.unwrap();
            client.finish().await.unwrap();
        };
        let answering = async {
            for number in 0..500 {
                assert_eq!(served.next().await.expect("an item").unwrap(), (number, "x".repeat(number as usize)));
            }
            assert_eq!(served.next().await.expect("an item").unwrap(), (500, String::new()));
            assert!(served.next().await.is_none());
            SinkExt::send(&mut served, Some(1 << 40)).await.unwrap();
        };
        tokio::join!(asking, answering);
        assert_eq!(client.recv().await.unwrap(), Some(Some(1 << 40)));
        assert_eq!(client.connection().messages_taken(), 502);
        served.close().await.unwrap();
        assert_eq!(client.recv().await.unwrap(), None);
    });
}

fn a_stream_of_values_goes_on_after_a_message_that_is_not_a_value(transport: Transport) {
    run(async {
        let Link { mut client, served, .. } = Link::new(transport).await;
        let mut served = served.typed::<(), bool>();
        for message in [&[1][..], &[7], &[0, 0], &[0]] {
            client.send(message).await.unwrap();
        }
        client.close().await.unwrap();
        assert!(served.next().await.expect("an item").unwrap());
        for number in [2, 3] {
            let error = served.next().await.expect("an item").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encoding);
            assert!(error.to_string().contains(&format!("message {number} (")), "{error}");
        }
        assert!(!served.next().await.expect("an item").unwrap());
        assert!(served.next().await.is_none());
    });
}

fn values_in_json_pass_each_way_and_others_are_errors(transport: Transport) {
    run(async {
        let Link { mut client, served, .. } = Link::new(transport).await;
        let mut served = served.typed_json::<Option<u64>, (u32, String)>();
        client.send(r#"[7,"seven"]"#).await.unwrap();
        client.send(r#"[7,"seven"#).await.unwrap();
        client.send(&[b'['; 1 << 12]).await.unwrap();
        assert_eq!(served.recv().await.unwrap(), Some((7, "seven".to_owned())));
        for number in [2, 3] {
            let error = served.next().await.expect("an item").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encoding);
            assert!(error.to_string().contains(&format!("message {number} (")), "{error}");
        }
        served.send(&None).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), b"null");

        let mut client = client.typed_json::<(u32, String), Option<u64>>();
        let (mut sender, _receiver) = served.split();
        SinkExt::send(&mut sender, Some(1 << 40)).await.unwrap();
        assert_eq!(client.recv().await.unwrap(), Some(Some(1 << 40)));
    });
}
