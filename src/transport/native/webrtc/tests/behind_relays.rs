//! Two nodes that describe themselves to each other, as they do behind a relay.

use super::*;
use crate::transport::{
    native::webrtc::Nodes,
    webrtc::{IceCandidate, Link as _, Negotiate, signaling::Backend as _},
};

fn node() -> (Connection, Streams<DataChannel>) {
    let streams = Streams::new();
    (Nodes::new().expect("made").connection(&streams).expect("a machine with an address"), streams)
}

async fn until_connected(connection: &mut Connection, streams: &Streams<DataChannel>) -> io::Result<()> {
    poll_fn(|context| match connection.poll(context, streams) {
        Poll::Ready(error) => Poll::Ready(Err(error)),
        Poll::Pending if connection.is_connected() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await
}

#[tokio::test]
async fn two_nodes_that_have_told_each_other_how_are_connected_and_the_first_channel_is_no_stream() {
    let ((mut one, one_streams), (mut two, two_streams)) = (node(), node());
    let offer = one.offer().await.expect("an offer");
    assert!(offer.contains("a=candidate:"), "{offer}");
    // A page puts names into its description that nobody here can resolve.
    let name = "a=candidate:1 1 udp 2122260223 5d5f5b8e-0000-4d3c-8c1a-000000000000.local 50000 typ host\r\n";
    let answer = two.answer(offer + name).await.expect("an answer");
    one.accept(answer).await.expect("accepted");
    let (first, second) =
        soon("connecting", join(until_connected(&mut one, &one_streams), until_connected(&mut two, &two_streams)))
            .await;
    first.expect("connected");
    second.expect("connected");
    one.close_init();

    let id = PeerId::random();
    let (ours, mut theirs) =
        (Peer::new((id, Muxer::new(one, one_streams))), Peer::new((id, Muxer::new(two, two_streams))));
    let mut stream = ours.open().await.expect("opened");
    stream.write_all(b"directly").await.expect("open");
    stream.close().await.expect("open");
    let mut heard = String::new();
    soon("it arrives", theirs.accept().await.read_to_string(&mut heard)).await.expect("heard");
    assert_eq!(heard, "directly");
    drop(ours);
    soon("the end is noticed", theirs.ended).await.expect("an error");
}

#[tokio::test]
async fn nonsense_in_the_place_of_a_description_is_an_error_and_no_panic() {
    let (mut one, _streams) = node();
    one.accept("v=0".to_owned()).await.expect_err("nothing was offered");
    let offer = one.offer().await.expect("an offer");
    for nonsense in ["", "garbage", "v=0\r\n", "a=candidate:", "\u{0}\u{ffff}", &offer[..offer.len() / 2]] {
        let (mut two, _streams) = node();
        if two.answer(nonsense.to_owned()).await.is_ok() {
            // What is whole enough to be answered is no offer of anybody who is there.
            two.close();
        }
    }
    one.accept("garbage".to_owned()).await.expect_err("no answer");
    let line = |candidate: &str| IceCandidate {
        candidate: candidate.to_owned(),
        sdp_mid: None,
        sdp_m_line_index: None,
        username_fragment: None,
    };
    one.add_candidate(line("candidate:1 1 udp 1 192.0.2.1 5 typ host")).await.expect("taken");
    one.add_candidate(line("candidate:1 1 udp 1 abc.local 5 typ host")).await.expect_err("left out");
    one.add_candidate(line("garbage")).await.expect_err("left out");
}

#[tokio::test]
async fn who_lets_a_connection_go_before_it_stands_leaves_no_task() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..50 {
        let (mut one, _streams) = node();
        one.offer().await.expect("an offer");
    }
    soon("all are gone", async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
