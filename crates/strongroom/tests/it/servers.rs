//! Databases on real servers, from outside: there and back, with the server, its clients and the program killed on the way.

mod full;
mod host;
mod kill;
mod there_and_back;
