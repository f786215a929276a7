"""One scripted model and one server for all tests; tests that kill a server start their own."""

import pytest

import kit


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    model = kit.Model(tmp_path_factory.mktemp("model"))
    yield model
    model.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory, model):
    server = kit.Server(tmp_path_factory.mktemp("server"), model.url)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def launch(tmp_path, model):
    """Starts servers that this test may kill; ends those that are left."""
    started = []

    def start(model_url=model.url, home=tmp_path, **environment):
        started.append(kit.Server(home, model_url, **environment))
        return started[-1]

    def again(server):
        started.append(server.restarted())
        return started[-1]

    start.again = again
    yield start
    for server in started:
        server.kill()


@pytest.fixture
def recorder():
    """Makes recorders in front of a server."""
    made = []

    def record(upstream):
        made.append(kit.Recorder(upstream))
        return made[-1]

    yield record
    for one in made:
        one.close()
