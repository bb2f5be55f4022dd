//! What the booking app keeps: movies, theaters, events, showtimes and bookings, the same ones at every start.
//!
//! What one row says about another is limited to what the shipped `proxy.toml` drops with that other: a showtime
//! shows its movie's title (a write to a movie drops the showtimes), an event only its movie's id (it does not
//! drop the events). A demo that embedded more would show stale answers which no rule had promised to prevent.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The whole state of the app: its database.
#[derive(Debug)]
pub(super) struct Store {
    movies: Vec<Movie>,
    theaters: Vec<Theater>,
    events: Vec<Event>,
    showtimes: Vec<Showtime>,
    /// By id. Its size is bounded by the seats there are, since a booking takes at least one.
    bookings: BTreeMap<u32, Booking>,
    next_booking: u32,
}

/// The four public collections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Event,
    Movie,
    Theater,
    Showtime,
}

#[derive(Debug)]
struct Movie {
    title: String,
    minutes: usize,
}

#[derive(Debug)]
struct Theater {
    name: String,
    city: &'static str,
}

#[derive(Debug)]
struct Event {
    title: String,
    movie: u32,
    /// The price of a seat in cents.
    price: u32,
}

#[derive(Debug)]
struct Showtime {
    event: u32,
    theater: u32,
    starts_at: String,
    capacity: u32,
    booked: u32,
}

/// Seats of one showtime that one user holds.
#[derive(Debug)]
struct Booking {
    showtime: u32,
    seats: u32,
    user: String,
}

/// Why a booking was not made or changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no such showtime, or no such booking of this user.
    Unknown,
    /// Fewer seats are left than were asked for.
    SoldOut {
        /// How many are left.
        left: u32,
    },
}

/// How many of the first showtimes there are for each event: the ids are dealt out in blocks.
const SHOWS_PER_EVENT: usize = 3;

impl Store {
    /// The sample data. Showtime 3 has two seats left, so that a sold-out answer is one request away.
    pub(super) fn sample() -> Self {
        let mut store = Self {
            movies: TITLES.iter().zip(0..).map(sample_movie).collect(),
            theaters: THEATERS.iter().map(sample_theater).collect(),
            events: (0..TITLES.len() * 2).map(sample_event).collect(),
            showtimes: (0..TITLES.len() * 2 * SHOWS_PER_EVENT)
                .map(sample_showtime)
                .collect(),
            bookings: BTreeMap::new(),
            next_booking: 1,
        };
        for (user, showtime, seats) in [
            ("alice", 1, 2),
            ("alice", 9, 4),
            ("bob", 1, 1),
            ("bob", 17, 3),
        ] {
            let made = store.book(user, showtime, seats);
            debug_assert!(made.is_ok(), "the sample showtimes have seats left");
        }
        store
    }

    /// How many rows a collection has; their ids are `1..=count`.
    pub(super) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Event => self.events.len(),
            Kind::Movie => self.movies.len(),
            Kind::Theater => self.theaters.len(),
            Kind::Showtime => self.showtimes.len(),
        }
    }

    /// One row as the API shows it.
    pub(super) fn row(&self, kind: Kind, id: u32) -> Option<Value> {
        match kind {
            Kind::Event => self.event(id),
            Kind::Movie => {
                let movie = self.movies.get(at(id))?;
                Some(json!({ "id": id, "title": movie.title, "duration": movie.minutes }))
            }
            Kind::Theater => {
                let theater = self.theaters.get(at(id))?;
                Some(json!({ "id": id, "name": theater.name, "city": theater.city }))
            }
            Kind::Showtime => self.showtime(id),
        }
    }

    /// Gives a row another title or name. False when there is no such row, or its kind has none.
    pub(super) fn rename(&mut self, kind: Kind, id: u32, name: String) -> bool {
        let held = match kind {
            Kind::Event => self.events.get_mut(at(id)).map(|event| &mut event.title),
            Kind::Movie => self.movies.get_mut(at(id)).map(|movie| &mut movie.title),
            Kind::Theater => self
                .theaters
                .get_mut(at(id))
                .map(|theater| &mut theater.name),
            Kind::Showtime => None,
        };
        held.map(|held| *held = name).is_some()
    }

    /// Gives an event another price, in cents. False when there is no such event.
    pub(super) fn reprice(&mut self, event: u32, cents: u32) -> bool {
        let held = self.events.get_mut(at(event)).map(|event| &mut event.price);
        held.map(|held| *held = cents).is_some()
    }

    /// How full a showtime is.
    pub(super) fn availability(&self, id: u32) -> Option<Value> {
        let showtime = self.showtimes.get(at(id))?;
        Some(json!({
            "showtime": id,
            "capacity": showtime.capacity,
            "booked": showtime.booked,
            "available": showtime.left(),
        }))
    }

    /// What the showtimes of one event, or of all, sold.
    pub(super) fn analytics(&self, event: Option<u32>) -> Value {
        let counted = |id: u32| event.is_none_or(|event| event == id);
        let shows = || self.showtimes.iter().filter(|show| counted(show.event));
        let price = |id: u32| self.events.get(at(id)).map_or(0, |event| event.price);
        let bookings = self.bookings.values().filter(|booking| {
            self.showtimes
                .get(at(booking.showtime))
                .is_some_and(|show| counted(show.event))
        });
        json!({
            "event": event,
            "showtimes": shows().count(),
            "bookings": bookings.count(),
            "capacity": shows().map(|show| show.capacity).sum::<u32>(),
            "seats_booked": shows().map(|show| show.booked).sum::<u32>(),
            "revenue": euros(shows().map(|show| show.booked * price(show.event)).sum()),
        })
    }

    /// A user's bookings, oldest first.
    pub(super) fn bookings_of(&self, user: &str) -> Vec<Value> {
        let own = self
            .bookings
            .iter()
            .filter(|(_, booking)| booking.user == user);
        own.map(|(id, booking)| self.show_booking(*id, booking))
            .collect()
    }

    /// One booking, if it is this user's: another's does not exist for him.
    pub(super) fn booking_of(&self, user: &str, id: u32) -> Option<Value> {
        let booking = self
            .bookings
            .get(&id)
            .filter(|booking| booking.user == user)?;
        Some(self.show_booking(id, booking))
    }

    /// Books seats, and gives the booking's id.
    pub(super) fn book(&mut self, user: &str, showtime: u32, seats: u32) -> Result<u32, Refused> {
        let show = self
            .showtimes
            .get_mut(at(showtime))
            .ok_or(Refused::Unknown)?;
        show.exchange(0, seats)?;
        let id = self.next_booking;
        self.next_booking += 1;
        self.bookings.insert(
            id,
            Booking {
                showtime,
                seats,
                user: user.to_owned(),
            },
        );
        Ok(id)
    }

    /// Makes a user's booking one of `seats` seats; zero cancels it.
    pub(super) fn rebook(&mut self, user: &str, id: u32, seats: u32) -> Result<(), Refused> {
        let held = self
            .bookings
            .get_mut(&id)
            .filter(|booking| booking.user == user);
        let booking = held.ok_or(Refused::Unknown)?;
        let show = self
            .showtimes
            .get_mut(at(booking.showtime))
            .ok_or(Refused::Unknown)?;
        show.exchange(booking.seats, seats)?;
        booking.seats = seats;
        if seats == 0 {
            self.bookings.remove(&id);
        }
        Ok(())
    }

    fn event(&self, id: u32) -> Option<Value> {
        let event = self.events.get(at(id))?;
        let shows = || {
            self.showtimes
                .iter()
                .zip(1_u32..)
                .filter(|(show, _)| show.event == id)
        };
        Some(json!({
            "id": id,
            "title": event.title,
            "movie": event.movie,
            "price": euros(event.price),
            "showtimes": shows().map(|(_, id)| id).collect::<Vec<_>>(),
            "seats_left": shows().map(|(show, _)| show.left()).sum::<u32>(),
        }))
    }

    fn showtime(&self, id: u32) -> Option<Value> {
        let show = self.showtimes.get(at(id))?;
        let movie = self.movie_of(show.event);
        Some(json!({
            "id": id,
            "event": show.event,
            "movie": movie,
            "movie_title": self.movies.get(at(movie)).map(|movie| &movie.title),
            "theater": show.theater,
            "theater_name": self.theaters.get(at(show.theater)).map(|theater| &theater.name),
            "starts_at": show.starts_at,
            "available": show.left(),
        }))
    }

    fn show_booking(&self, id: u32, booking: &Booking) -> Value {
        let event = self
            .showtimes
            .get(at(booking.showtime))
            .map_or(0, |show| show.event);
        json!({
            "id": id,
            "showtime": booking.showtime,
            "event": event,
            "movie": self.movie_of(event),
            "seats": booking.seats,
            "user": booking.user,
        })
    }

    fn movie_of(&self, event: u32) -> u32 {
        self.events.get(at(event)).map_or(0, |event| event.movie)
    }
}

impl Showtime {
    fn left(&self) -> u32 {
        self.capacity - self.booked
    }

    /// Gives `back` seats and takes others, or changes nothing.
    fn exchange(&mut self, back: u32, take: u32) -> Result<(), Refused> {
        let left = self.left() + back;
        if take > left {
            return Err(Refused::SoldOut { left });
        }
        self.booked = self.capacity - (left - take);
        Ok(())
    }
}

/// Where the row of an id is. Id 0, which no row has, is past the end of every collection.
fn at(id: u32) -> usize {
    id.checked_sub(1).map_or(usize::MAX, |index| index as usize)
}

/// An amount of cents as DRF shows a decimal: a string with two places.
fn euros(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn sample_movie((title, index): (&&str, usize)) -> Movie {
    Movie {
        title: (*title).to_owned(),
        minutes: 84 + index * 7 % 60,
    }
}

fn sample_theater((name, city): &(&str, &'static str)) -> Theater {
    Theater {
        name: (*name).to_owned(),
        city,
    }
}

fn sample_event(index: usize) -> Event {
    let movie = index % TITLES.len();
    let occasion = if index < TITLES.len() {
        "Opening night"
    } else {
        "Matinee"
    };
    Event {
        title: format!("{occasion}: {}", TITLES[movie]),
        movie: small(movie + 1),
        price: small(900 + index % 5 * 150),
    }
}

fn sample_showtime(index: usize) -> Showtime {
    let capacity = small(40 + index % 4 * 20);
    Showtime {
        event: small(index / SHOWS_PER_EVENT + 1),
        theater: small(index % THEATERS.len() + 1),
        starts_at: format!(
            "2030-06-{:02}T{:02}:30:00Z",
            1 + index % 28,
            14 + index % 4 * 2
        ),
        capacity,
        booked: if index == 2 {
            capacity - 2
        } else {
            small(index * 7 % 30)
        },
    }
}

/// A sample number: all of them are counts of the constants below, or a few hundred.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

const TITLES: [&str; 12] = [
    "Metropolis",
    "The Kid",
    "Nosferatu",
    "The General",
    "Safety Last!",
    "Sunrise",
    "The Gold Rush",
    "Faust",
    "Wings",
    "Sherlock Jr.",
    "Greed",
    "Pandora's Box",
];

const THEATERS: [(&str, &str); 6] = [
    ("Odeon", "Berlin"),
    ("Rex", "Paris"),
    ("Tuschinski", "Amsterdam"),
    ("Phoenix", "London"),
    ("Apollo", "Vienna"),
    ("Lumiere", "Lyon"),
];
