//! Connections end, and everybody hears of it.

use super::*;

#[tokio::test]
async fn who_closes_is_noticed_at_once() {
    for listener_closes in [false, true] {
        let (ours, theirs) = pair().await;
        let (closing, staying) = if listener_closes { (theirs, ours) } else { (ours, theirs) };
        let mut stream = staying.open().await.expect("opened");
        drop(closing);
        let begun = Instant::now();
        let error = soon("it is noticed", staying.ended).await.expect("an error");
        assert!(error.to_string().contains("peer has closed"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(stream.write_all(b"late").await.is_err() || stream.flush().await.is_err());
    }
}

/// Nothing is said for longer than a NAT or an impatient peer would stand.
#[tokio::test]
async fn a_peer_that_disappears_is_noticed_within_30_seconds_and_one_that_is_only_quiet_is_not() {
    let (_, mut listener) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    let mut peers = accept(listener);
    // It has a network of its own, so that all of it is gone at once, without a word.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let vanishing_address = address.clone();
    let vanishing = runtime.spawn(async move { dial(&mut transport().1, vanishing_address).await.expect("dialled") });
    let gone = peers.next().await.expect("came").expect("accepted");
    let vanishing = vanishing.await.expect("no panic");
    let quiet = dial(&mut transport().1, address).await.expect("dialled");
    let mut still_there = peers.next().await.expect("came").expect("accepted");

    runtime.shutdown_background();
    let begun = Instant::now();
    let error = tokio::time::timeout(Duration::from_secs(30), gone.ended).await.expect("noticed").expect("an error");
    println!("noticed after {:?}: {error}", begun.elapsed());
    drop(vanishing);

    tokio::time::sleep(Duration::from_secs(35).saturating_sub(begun.elapsed())).await;
    let mut stream = quiet.open().await.expect("opened");
    stream.write_all(b"still here").await.expect("open");
    stream.close().await.expect("open");
    let mut heard = String::new();
    still_there.accept().await.read_to_string(&mut heard).await.expect("heard");
    assert_eq!(heard, "still here");
}

#[tokio::test]
async fn two_hundred_connections_leave_nothing_behind() {
    let (_, mut listener) = transport();
    let (_, mut dialler) = transport();
    let address = listen(&mut listener, LOCALHOST).await;
    let doorbell = listener.doorbell();
    let mut peers = accept(listener);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for round in 0..20 {
        let dials = (0..10).map(|_| {
            let options = DialOpts { role: Role::Dialer, port_use: PortUse::New };
            dialler.dial(address.clone(), options).expect("dialled")
        });
        let ours = soon("dialling", try_join_all(dials)).await.expect("dialled");
        let ours = ours.into_iter().map(Peer::new).collect::<Vec<_>>();
        let theirs = soon("they come", peers.by_ref().take(10).collect::<Vec<_>>()).await;
        let streams = join_all(ours.iter().map(Peer::open)).await;
        assert_eq!(doorbell.connections.load(Ordering::Relaxed), 10, "round {round}");
        // Either side closes, with streams open.
        if round % 2 == 0 {
            drop(ours);
        } else {
            drop(theirs);
        }
        drop(streams);
        soon("all have ended", async {
            while doorbell.connections.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
    soon("no task is left", async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
