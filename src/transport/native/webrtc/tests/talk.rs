//! What two nodes that are connected can do.

use super::*;

#[tokio::test]
async fn two_nodes_meet_prove_who_they_are_and_talk_both_ways() {
    let (listener_id, mut listener) = transport();
    let (dialler_id, mut dialler) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    assert!(DirectAddress::parse(&address).is_some(), "{address}");
    let mut peers = accept(listener);
    let (ours, theirs) = join(dial(&mut dialler, address), peers.next()).await;
    let (mut ours, mut theirs) = (ours.expect("dialled"), theirs.expect("came").expect("accepted"));
    assert_eq!((ours.id, theirs.id), (listener_id, dialler_id));

    for turn in 0..2 {
        let (one, other) = if turn == 0 { (&mut ours, &mut theirs) } else { (&mut theirs, &mut ours) };
        let mut asks = one.open().await.expect("opened");
        let question = async {
            asks.write_all(b"question").await?;
            asks.close().await?;
            let mut answer = String::new();
            asks.read_to_string(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = async {
            let mut answers = other.accept().await;
            let mut question = String::new();
            answers.read_to_string(&mut question).await?;
            answers.write_all(format!("answer to {question}").as_bytes()).await?;
            answers.close().await
        };
        let (heard, answered) = soon("talking", join(question, answer)).await;
        answered.expect("answered");
        assert_eq!(heard.expect("heard"), "answer to question");
    }
}

#[tokio::test]
async fn ip6_works_too_and_a_listener_on_all_interfaces_tells_each_of_its_addresses() {
    let (_, mut listener) = transport();
    let (_, mut dialler) = transport();
    let first = listen(&mut listener, "/ip6/::/udp/0/webrtc-direct").await;
    let mut address = first;
    while !address.iter().any(|part| part == Protocol::Ip6(std::net::Ipv6Addr::LOCALHOST)) {
        match next(&mut listener).await {
            TransportEvent::NewAddress { listen_addr, .. } => address = listen_addr,
            other => panic!("{other:?}"),
        }
    }
    let mut peers = accept(listener);
    let (ours, theirs) = join(dial(&mut dialler, address), peers.next()).await;
    theirs.expect("came").expect("accepted").echo();
    let ours = ours.expect("dialled");
    let mut stream = ours.open().await.expect("opened");
    stream.write_all(b"six").await.expect("open");
    stream.close().await.expect("open");
    let mut heard = String::new();
    soon("the echo", stream.read_to_string(&mut heard)).await.expect("heard");
    assert_eq!(heard, "six");
}

#[tokio::test]
async fn a_hundred_streams_opened_at_once_from_both_sides_all_work() {
    let (ours, theirs) = pair().await;
    let (ours_open, theirs_open) = (ours.open.clone(), theirs.open.clone());
    let tables = [ours.streams.clone(), theirs.streams.clone()];
    ours.echo();
    theirs.echo();
    let ask = |open: &mpsc::Sender<Opened>, number: usize| {
        let mut open = open.clone();
        async move {
            let (opened, stream) = oneshot::channel();
            open.send(opened).await.map_err(io::Error::other)?;
            let mut stream = stream.await.map_err(io::Error::other)??;
            let said = pattern(10_000 + number);
            stream.write_all(&said).await?;
            stream.close().await?;
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await?;
            assert!(heard == said, "stream {number}");
            io::Result::Ok(())
        }
    };
    let all = (0..100).flat_map(|number| [ask(&ours_open, number).boxed(), ask(&theirs_open, number).boxed()]);
    soon("200 answers", try_join_all(all)).await.expect("all answered");
    soon("nothing is left of them", async {
        while tables.iter().any(|table| table.count() > 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_hundred_megabytes_arrive_intact_both_ways_and_the_sender_is_held_back() {
    const SIZE: usize = 100_000_000;
    let (mut ours, theirs) = pair().await;
    let part = pattern(1_000_000);
    let send = |mut stream: TestStream| {
        let part = part.clone();
        async move {
            for _ in 0..SIZE / part.len() {
                stream.write_all(&part).await?;
            }
            stream.close().await?;
            io::Result::Ok(stream)
        }
    };
    let receive = |mut stream: TestStream| {
        let part = part.clone();
        async move {
            let (mut count, mut buffer) = (0, vec![0; 50_000]);
            loop {
                let read = stream.read(&mut buffer).await?;
                if read == 0 {
                    return io::Result::Ok((count, stream));
                }
                for (at, byte) in buffer[..read].iter().enumerate() {
                    assert_eq!(*byte, part[(count + at) % part.len()], "at {}", count + at);
                }
                count += read;
            }
        }
    };
    let one = theirs.open().await.expect("opened");
    let begun = Instant::now();
    let (sent, received) = join(tokio::spawn(send(one)), async {
        let stream = ours.accept().await;
        tokio::spawn(receive(stream)).await
    })
    .await;
    sent.expect("no panic").expect("sent");
    assert_eq!(received.expect("no panic").expect("received").0, SIZE);
    println!("one way: {:.0} MB/s", SIZE as f64 / 1e6 / begun.elapsed().as_secs_f64());
}

#[tokio::test]
async fn a_writer_waits_when_nobody_answers() {
    let (ours, theirs) = pair().await;
    let mut stream = ours.open().await.expect("opened");
    stream.write_all(b"first").await.expect("open");
    stream.flush().await.expect("opened");
    // From here on nothing is polled but the writer: the endpoint has no turn.
    let mut written = 0;
    while let Some(result) = stream.write(&[0; 100_000]).now_or_never() {
        written += result.expect("open");
        assert!(written < 1_000_000, "{written}");
    }
    assert!(written >= 256 * 1024, "{written}");
    drop(theirs);
}
