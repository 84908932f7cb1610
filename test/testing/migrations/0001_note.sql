create table note (id uuid primary key, text text not null, owner text not null);
